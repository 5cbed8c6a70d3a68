"""The losses of the inter-pixel relation network (Ahn et al., CVPR 2019, equations 6 to 9).

Official step/train_irn.py and net/resnet50_irn.py. Objects of one image may share one crop of it:
then everything that does not depend on the labels is computed once for them.

Shapes as in pairs.py, with B images and P objects.
"""

import torch
from torch import Tensor

from irnet.affinity.pairs import (
    PairLabels,
    directions,
    pair_displacement,
    pair_labels,
    path_affinity,
)
from stages.runtime.distributed import mean_over_all

LOG_FLOOR = 1e-5  # official: keeps the logarithms and the divisions finite


def relation_losses(
    edge_logits: Tensor,
    displacement: Tensor,
    labels: Tensor,
    radius: int,
    image_index: Tensor | None = None,
    offsets: Tensor | None = None,
) -> dict[str, Tensor]:
    """Named losses of edge logits (B, 1, H, W) and displacement (B, 2, H, W), and their total.

    `labels` (P, H, W) of objects are on the same grid; `image_index` (P,) says which image each is
    of (without it, object and image number agree). `offsets` are those of `pair_offsets`, where
    they are on the device already. Every loss is a mean over the pairs of one kind in the whole
    batch, of all processes, so one without such pairs is zero.
    """
    pairs = _pairs_per_image(pair_labels(labels, radius), image_index, len(edge_logits))
    affinity = path_affinity(torch.sigmoid(edge_logits.float()[:, 0]), radius)
    attraction = -torch.log(affinity + LOG_FLOOR)
    repulsion = -torch.log(1 + LOG_FLOOR - affinity)
    difference = pair_displacement(displacement.float(), radius)
    if offsets is None:
        offsets = pair_offsets(radius).to(difference.device)
    to_offset = (difference - offsets[None, :, :, None, None]).abs().sum(1) / 2
    to_nothing = difference.abs().sum(1) / 2

    losses = {
        name: mean_over_all(values, counts, items=len(labels), floor=LOG_FLOOR)
        for name, values, counts in (
            ("affinity_background", attraction, pairs.background),
            ("affinity_foreground", attraction, pairs.foreground),
            ("affinity_different", repulsion, pairs.different),
            ("displacement_foreground", to_offset, pairs.foreground),
            ("displacement_background", to_nothing, pairs.background),
        )
    }
    alike = (losses["affinity_background"] + losses["affinity_foreground"]) / 2
    centers = losses["displacement_foreground"] + losses["displacement_background"]
    losses["loss"] = (alike + losses["affinity_different"]) / 2 + centers / 2
    return losses


def _pairs_per_image(pairs: PairLabels, image_index: Tensor | None, images: int) -> PairLabels:
    """The number of objects (B, D, h, w) of each image for which a pair is of each kind."""
    if image_index is None:
        return pairs
    kinds = (pairs.background, pairs.foreground, pairs.different)
    counts = [
        torch.zeros((images, *kind.shape[1:]), dtype=torch.int32, device=kind.device).index_add_(
            0, image_index, kind.int()
        )
        for kind in kinds
    ]
    return PairLabels(*counts)


def pair_offsets(radius: int) -> Tensor:
    """The (down, right) offset of every direction, as (2, D)."""
    offsets = [(pair.down, pair.right) for pair in directions(radius)]
    return torch.tensor(offsets, dtype=torch.float32).T
