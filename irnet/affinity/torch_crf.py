"""The dense CRF of pydensecrf (Krahenbuhl and Koltun, 2011) in torch, for several images at once.

A labeling is binary, so one channel holds it: d, the probability of foreground minus that of
background. Two of the CRF's messages to a pixel differ by the filtered d. All labelings of all
images of a batch are channels of one lattice.

Shapes: I images, N pixels of all of them, C labelings of an image.
"""

import math
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from irnet.affinity.images import Rgb
from irnet.affinity.lattice import Feature, Lattice, build_lattice, feature
from stages.config.steps import Labels

# What bounds the memory of a batch: the labelings of an image are taken together up to so many
# pixels in all, one at least. The lattices take at most BYTES_PER_PIXEL while they are built.
VALUES_AT_ONCE = {"cpu": 8_000_000, "cuda": 64_000_000}
BYTES_PER_PIXEL = 500
SMALL = 1e-20  # pydensecrf: avoids a division by zero

Shape = tuple[int, int]


def refine(
    images: Sequence[Rgb], masks: Sequence[Tensor], config: Labels, device: torch.device
) -> list[Tensor]:
    """The labelings (C, H, W) of each image (H, W, 3) that best fit its rough masks (C, H, W).

    Raises InputError where a deviation is so small that the lattice has 2^63 possible points.
    """
    shapes = tuple((image.shape[0], image.shape[1]) for image in images)
    kernels = [
        (config.gaussian_compat, *_spatial(shapes, config.gaussian_sxy, device)),
        (config.bilateral_compat, *_normalized(_bilateral(images, shapes, config, device))),
    ]
    rough = [mask.to(device).flatten(1) for mask in masks]
    channels = max(len(mask) for mask in rough)
    pixels = sum(height * width for height, width in shapes)
    step = max(1, VALUES_AT_ONCE[device.type] // pixels)
    labelings = torch.cat(
        [
            _infer(_rows(rough, start, min(start + step, channels)), kernels, config)
            for start in range(0, channels, step)
        ],
        dim=1,
    )  # (N, channels)
    of_images = labelings.split([height * width for height, width in shapes])
    return [
        rows[:, : len(mask)].T.reshape(-1, *shape)
        for rows, mask, shape in zip(of_images, rough, shapes, strict=True)
    ]


def _rows(masks: Sequence[Tensor], start: int, stop: int) -> Tensor:
    """Some labelings (N, stop - start) of all images; images that have fewer get empty ones."""
    columns = [mask[start:stop].T for mask in masks]
    return torch.cat(
        [torch.nn.functional.pad(column, (0, stop - start - column.shape[1])) for column in columns]
    )


def _infer(
    masks: Tensor, kernels: Sequence[tuple[float, Lattice, Tensor]], config: Labels
) -> Tensor:
    """Mean field steps from masks (N, C): the labelings (N, C)."""
    margin = float(np.float32(-math.log(1 - config.certainty))) - float(
        np.float32(-math.log(config.certainty))
    )
    unary = torch.where(masks, margin, -margin).float()
    logits = unary
    for _ in range(config.iterations):
        difference = torch.tanh(logits / 2)
        logits = unary
        for compat, lattice, norm in kernels:
            logits = logits + compat * norm * lattice.filter(norm * difference)
    return logits > 0


def _normalized(lattice: Lattice) -> tuple[Lattice, Tensor]:
    """A lattice and the factors (N, 1) that make its filter symmetric and its sums about one."""
    ones = torch.ones((len(lattice.corners), 1), device=lattice.weights.device)
    return lattice, (lattice.filter(ones) + SMALL).rsqrt()


@lru_cache(maxsize=1)
def _spatial(
    shapes: tuple[Shape, ...], deviation: float, device: torch.device
) -> tuple[Lattice, Tensor]:
    """The lattice of positions alone and its factors, the same for all images of a size."""
    features, image = _positions(shapes, deviation, device)
    return _normalized(build_lattice(features, image, len(shapes)))


def _bilateral(
    images: Sequence[Rgb], shapes: Sequence[Shape], config: Labels, device: torch.device
) -> Lattice:
    features, image = _positions(shapes, config.bilateral_sxy, device)
    pixels = np.concatenate([image.reshape(-1, 3) for image in images])
    colors = torch.from_numpy(pixels).to(device)
    features += [feature(256, config.bilateral_srgb, colors[:, i]) for i in range(3)]
    return build_lattice(features, image, len(shapes))


def _positions(
    shapes: Sequence[Shape], deviation: float, device: torch.device
) -> tuple[list[Feature], Tensor]:
    """Column and row of each pixel, and its image (N,)."""
    columns = [
        torch.arange(width, dtype=torch.int32, device=device).repeat(height)
        for height, width in shapes
    ]
    rows = [
        torch.arange(height, dtype=torch.int32, device=device).repeat_interleave(width)
        for height, width in shapes
    ]
    sizes = torch.tensor([height * width for height, width in shapes], device=device)
    image = torch.arange(len(shapes), dtype=torch.int32, device=device).repeat_interleave(sizes)
    height, width = max(shape[0] for shape in shapes), max(shape[1] for shape in shapes)
    return [
        feature(width, deviation, torch.cat(columns)),
        feature(height, deviation, torch.cat(rows)),
    ], image
