"""Regions of an image, whichever of its objects they are of.

A pseudo mask is where the response of one object is strong. Where that is on a neighbor, no pseudo
mask shows the object itself; but the responses of all objects together mostly have a peak there.
The strongest response of any object is cut into basins, one around each peak, and each basin
spreads by the random walk alone, up to the edges.

Shapes: P objects, H x W pixels, h x w cells of the network's grid, R regions.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from skimage.feature import peak_local_max
from skimage.segmentation import watershed
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from irnet.affinity.pseudo_masks import on_grid, strongest
from irnet.affinity.walk import random_walk
from stages.config.steps import Propagation

# On RefShapes and its hard variant, distances of 2 to 5 cells and peaks of 0.1 to 0.4 gave the same
# masks of train within a point; a threshold of 0.45 gave 3 points less on the hard variant.
DISTANCE = 5  # cells between two peaks, at least
LEAST_PEAK = 0.2  # of a response, whose maximum is 1
THRESHOLD = 0.25  # of a walked basin, of its own maximum


def find_regions(
    responses: Sequence[Tensor], edges: Tensor, factor: int, config: Propagation
) -> list[Iterator[NDArray[np.bool_]]]:
    """The regions (H, W) of each image, from responses (P, H, W) in 0..1 and edges (B, h, w).

    The images are of one size. `factor` is the number of image pixels a cell.
    """
    grid = edges.shape[1:]
    rows = [
        _in_basins(on_grid(image, grid).amax(dim=0)) for image in responses
    ]  # (R, h, w) of each
    padded = pad_sequence(rows, batch_first=True)
    walked = random_walk(padded, edges, config.radius, config.beta, config.steps)
    return [
        _masks(of_image[: len(row)], factor, (image.shape[1], image.shape[2]))
        for of_image, row, image in zip(walked, rows, responses, strict=True)
    ]


def basins(response: NDArray[np.float32]) -> NDArray[np.int64]:
    """The basin (h, w), from 1, of each cell of a response (h, w); all 0 if it has no peak."""
    peaks = peak_local_max(
        response, min_distance=DISTANCE, threshold_abs=LEAST_PEAK, exclude_border=False
    )
    seeds = np.zeros(response.shape, np.int64)
    seeds[tuple(peaks.T)] = np.arange(1, len(peaks) + 1)
    found: NDArray[np.int64] = watershed(-response, seeds)
    return found


def _in_basins(response: Tensor) -> Tensor:
    """The part of a response (h, w) in each of its basins: (R, h, w)."""
    basin = torch.from_numpy(basins(response.cpu().numpy())).to(response.device)
    numbers = torch.arange(1, int(basin.max()) + 1, device=response.device)
    return response * (basin == numbers[:, None, None])


def _masks(walked: Tensor, factor: int, shape: tuple[int, int]) -> Iterator[NDArray[np.bool_]]:
    """The regions (H, W) of walked basins (R, h, w), one at a time; empty ones are left out."""
    for row in walked:
        full, _ = strongest(row[None], factor, shape)
        if bool(full.max() > 0):
            yield (full > THRESHOLD * full.max()).cpu().numpy()
