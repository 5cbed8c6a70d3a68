"""Pseudo masks of the objects of images, from their response maps and the relation network.

Ahn et al. (IRNet, CVPR 2019). The official step_refer/make_ins_seg_labels.py repeats the network,
the instances and the transition matrix for each object of an image, and keeps a full-size score map
of each instance. Here the random walk treats all objects of some images of one size and their
instances together.

Shapes: P objects, H x W pixels of the image, h x w cells of the network's grid, K rows: the
instances of an object.
"""

from collections.abc import Iterator, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from skimage.measure import label as connected_components
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from irnet.affinity.instances import find_instances
from irnet.affinity.walk import random_walk
from stages.config.steps import CELL, Propagation

SMALLEST_FRAGMENT = 0.01  # of the image; official: smaller fragments score 0 but stay in the mask
# Pixels of instances that are enlarged to image size together: 32 instances of 640 x 640, at least.
VALUES_AT_ONCE = 32 * 640 * 640


@dataclass(frozen=True)
class Relations:
    """Predictions for an image: edges (h, w), and the instance (h, w) of each cell."""

    edge: Tensor
    instances: Tensor


@dataclass(frozen=True)
class PseudoMask:
    """A mask (H, W) and the best score of its fragments: 0 of an empty response."""

    mask: NDArray[np.bool_]
    score: float


@dataclass(frozen=True)
class Fragments:
    """Connected parts of the instances of one object, the instances in order."""

    label: NDArray[np.int64]  # (H, W) 0: background, else the fragment's number from 1
    scores: NDArray[np.float32]  # (fragments,)


Assigned = tuple[NDArray[np.float32], NDArray[np.int32]]  # relative scores and owners, (H, W)


def find_relations(edges: Tensor, displacement: Tensor, config: Propagation) -> list[Relations]:
    """Edges and instances of B images, from the network's predictions (B, h, w), (B, 2, h, w)."""
    if not config.instances:
        return [Relations(edge, torch.zeros_like(edge, dtype=torch.long)) for edge in edges]
    instances = find_instances(displacement, config.refinement_steps, config.cluster_threshold)
    on_device = torch.from_numpy(instances).to(edges.device)
    return [Relations(*relations) for relations in zip(edges, on_device, strict=True)]


def pseudo_masks(
    responses: Sequence[Tensor],
    relations: Sequence[Relations],
    factor: int,
    config: Propagation,
    pool: Executor | None = None,
) -> list[Iterator[PseudoMask]]:
    """A mask for each of the non-negative response maps (P, H, W) of each image, all of one size.

    The pool, if there is one, finds the connected parts while the caller goes on.

    `factor` is the number of image pixels a cell. A response that is zero everywhere gives an
    empty mask, or with `empty_response: whole_image` the whole image: the official code divides
    zero by zero.
    """
    touched = [_touched(*image) for image in zip(responses, relations, strict=True)]
    rows = pad_sequence([torch.cat(of_image) for of_image in touched], batch_first=True)
    edges = torch.stack([relation.edge for relation in relations])
    walked = random_walk(rows, edges, config.radius, config.beta, config.steps)
    masks = []
    for of_image, instances, maps in zip(walked, touched, responses, strict=True):
        shape = (maps.shape[1], maps.shape[2])
        counts = [len(of_object) for of_object in instances]
        assigned = [
            _assigned(of_object, factor, shape, config)
            for of_object in of_image[: sum(counts)].split(counts)
        ]
        masks.append((pool.map if pool is not None else map)(_pseudo_mask, assigned))
    return masks


def _touched(responses: Tensor, relations: Relations) -> list[Tensor]:
    """For each response (H, W) of P, its part in each instance that it touches: (K, h, w)."""
    small = on_grid(responses, relations.edge.shape)
    numbers = torch.arange(int(relations.instances.max()) + 1, device=responses.device)
    members = relations.instances == numbers[:, None, None]  # (instances, h, w)
    rows = []
    for response in small:
        instances = response * members
        # An instance without any response stays at zero, and is left out.
        rows.append(instances[instances.flatten(1).any(1)])
    return rows


def on_grid(responses: Tensor, grid: Sequence[int]) -> Tensor:
    """Responses (P, H, W) on the network's grid (P, h, w); corners stay corners."""
    small = F.interpolate(responses[:, None], tuple(grid), mode="bilinear", align_corners=True)
    return small[:, 0]


def strongest(rows: Tensor, factor: int, shape: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Highest score (H, W) of rows (K, h, w) at image size, and the row (H, W) it is from."""
    best, owner = None, None
    step = max(1, VALUES_AT_ONCE // (shape[0] * shape[1]))
    for start in range(0, len(rows), step):
        chunk = rows[start : start + step, None]
        if factor > 1:
            chunk = F.interpolate(chunk, scale_factor=factor, mode="bilinear", align_corners=False)
        values, row = chunk[:, 0, : shape[0], : shape[1]].max(dim=0)
        if best is None or owner is None:
            best, owner = values, row
        else:
            owner = torch.where(values > best, row + start, owner)
            best = torch.maximum(values, best)
    assert best is not None and owner is not None
    return best, owner


def assign(best: Tensor, owner: Tensor, threshold: float) -> tuple[Tensor, Tensor]:
    """Scores (H, W) relative to the highest, and the row from 1, or 0 for background.

    A score that is not a number (all rows zero) is foreground, as the official arg max has it.
    """
    relative = best / best.max()
    inside = (relative > threshold) | relative.isnan()
    return relative, torch.where(inside, owner + 1, 0)


def split_fragments(relative: NDArray[np.float32], owner: NDArray[np.integer]) -> Fragments:
    """Connected parts of each instance; those under 1 % of the image score 0."""
    label = connected_components(owner, connectivity=1, background=0)
    inside = np.flatnonzero(label)  # most pixels are not
    part, count = label.ravel()[inside], int(label.max())
    sizes = np.bincount(part, minlength=count + 1)[1:]
    scores = np.zeros(count + 1, np.float32)
    with np.errstate(invalid="ignore"):
        np.maximum.at(scores, part, relative.ravel()[inside])
    scores = scores[1:]
    scores[sizes < SMALLEST_FRAGMENT * label.size] = 0
    instance = np.zeros(count + 1, np.int64)
    instance[part] = owner.ravel()[inside]
    order = np.argsort(instance[1:], kind="stable")
    number = np.zeros(count + 1, np.int64)
    number[order + 1] = np.arange(1, count + 1)
    np.put(label, inside, number[part])
    return Fragments(label, scores[order])


def _assigned(
    rows: Tensor, factor: int, shape: tuple[int, int], config: Propagation
) -> Assigned | NDArray[np.bool_]:
    """Relative scores and owners (H, W) of an object; a mask at once if there is no response."""
    if len(rows) == 0 or not bool(rows.max() > 0):
        return np.full(shape, config.empty_response == "whole_image")
    relative, owner = assign(*strongest(rows, factor, shape), config.background_threshold)
    return relative.cpu().numpy(), owner.int().cpu().numpy()


def _pseudo_mask(assigned: Assigned | NDArray[np.bool_]) -> PseudoMask:
    if not isinstance(assigned, tuple):
        return PseudoMask(assigned, 0.0)
    fragments = split_fragments(*assigned)
    return PseudoMask(fragments.label > 0, float(fragments.scores.max(initial=0)))


def image_factor(input_scale: int) -> int:
    """Image pixels a cell, when images are enlarged by `input_scale` for the network."""
    return CELL // input_scale
