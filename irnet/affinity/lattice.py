"""Gaussian filters on a permutohedral lattice (Adams et al., 2010), for several images at once.

The filter of pydensecrf (Krahenbuhl and Koltun, 2011) in plain torch, on any device: the points of
the lattice are those of its float32 arithmetic, one by one. A point is an integer that holds its
coordinates and the number of its image, so that one sort finds the points of all images and the
pixels of each point. All sums run over sorted segments: they are the same in each run.

Shapes: N pixels of all images, D features of a pixel, K = D + 1 corners of a simplex, M points,
C channels.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from stages.runtime.errors import InputError

PIXELS_AT_ONCE = 1_000_000  # whose points are worked out together, before all are sorted
LARGEST_KEY = 2**63 - 1


@dataclass(frozen=True)
class Lattice:
    """The points that some pixels touch. Row M of all values is zero: the point that is missing."""

    corners: Tensor  # (N, K) the points around each pixel, int32
    weights: Tensor  # (N, K) and their shares of it
    pixels: Tensor  # (N K,) the pixels of each point, one point after the other, int32
    pixel_weights: Tensor  # (N K,)
    starts: Tensor  # (M + 2,) where the pixels of each point begin, int32
    neighbors: Tensor  # (K, M + 1, 2) along each direction, int32

    def filter(self, values: Tensor) -> Tensor:
        """The sums (N, C) of values (N, C), weighted by the distance of their features."""
        points = F.embedding_bag(
            self.pixels,
            values,
            self.starts,
            mode="sum",
            per_sample_weights=self.pixel_weights,
            include_last_offset=True,
        )  # (M + 1, C)
        for pairs in self.neighbors:
            points = torch.add(points, F.embedding_bag(pairs, points, mode="sum"), alpha=0.5)
        filtered = F.embedding_bag(
            self.corners, points, mode="sum", per_sample_weights=self.weights
        )
        return filtered / (1 + 2.0 ** (1 - self.corners.shape[1]))


@dataclass(frozen=True)
class Feature:
    """One feature of all pixels: the values that it can have, and which of them each pixel has."""

    table: Tensor  # (values,) float32, at least 0
    index: Tensor  # (N,) of any whole numbers


def feature(count: int, deviation: float, index: Tensor) -> Feature:
    """Whole numbers below `count`, in units of a standard deviation.

    Divided here, because a GPU multiplies by the inverse of a number, which rounds differently.
    """
    table = np.arange(count, dtype=np.float32) / np.float32(deviation)
    return Feature(torch.from_numpy(table).to(index.device), index)


def build_lattice(features: Sequence[Feature], image: Tensor, num_images: int) -> Lattice:
    """The lattice of pixels with some features, each the pixel of an image (N,).

    Raises InputError where the possible points are too many to be numbered.
    """
    strides, lowest, images_apart = _numbering(features)
    if images_apart * num_images > LARGEST_KEY:
        raise InputError(
            f"a filter of {len(features)} features has more than 2^63 possible points; needed"
            " larger deviations (labels: bilateral_srgb, bilateral_sxy, gaussian_sxy)"
        )
    keys, weights = [], []
    for start in range(0, len(image), PIXELS_AT_ONCE):
        some = slice(start, start + PIXELS_AT_ONCE)
        values = [f.table[f.index[some].long()] for f in features]
        own_keys, own_weights = _simplices(values, strides, lowest)
        keys.append(own_keys + (image[some].long() * images_apart)[:, None])
        weights.append(own_weights)
    return _connect(torch.cat(keys), torch.cat(weights), strides)


def _simplices(
    values: Sequence[Tensor], strides: Sequence[int], lowest: Sequence[int]
) -> tuple[Tensor, Tensor]:
    """The points (N, K) around each pixel and their shares of it, from its features (N,).

    Corner number r lies r steps up all axes, and K steps down those of the r highest ranks.
    """
    corners = len(values) + 1
    elevated = _elevate([value * _scale(axis, corners) for axis, value in enumerate(values)])
    base, rank, rest = _closest_simplex(elevated, strides, lowest)
    stride = torch.tensor([*strides, 0], device=base.device)
    steps = torch.zeros_like(rank).scatter_(1, rank, stride.expand_as(rank)).flip(1)
    keys = base[:, None] + torch.arange(corners, device=base.device) * sum(strides)
    keys[:, 1:] -= corners * steps.cumsum(1)[:, :-1]
    by_rank = torch.zeros_like(rest).scatter_(1, rank, rest).flip(1)
    weights = torch.cat(
        [by_rank[:, :1] + (1 - by_rank[:, -1:]), by_rank[:, 1:] - by_rank[:, :-1]], dim=1
    )
    return keys, weights


def _scale(axis: int, corners: int) -> float:
    """Of an axis, so that the blur of the lattice has a deviation of one (page 5 and 6 there)."""
    return float(
        np.float32(
            1 / math.sqrt((axis + 2) * (axis + 1)) * float(np.float32(math.sqrt(2 / 3) * corners))
        )
    )


def _elevate(scaled: Sequence[Tensor]) -> Tensor:
    """The pixels (N, K) on the plane of the lattice, in the order of pydensecrf's additions."""
    total = torch.zeros_like(scaled[0])
    axes = []
    for axis in range(len(scaled), 0, -1):
        axes.append(total - axis * scaled[axis - 1])
        total = total + scaled[axis - 1]
    return torch.stack([total, *reversed(axes)], dim=1)


def _numbering(features: Sequence[Feature]) -> tuple[list[int], list[int], int]:
    """The stride and the lowest value of each coordinate of a point, and the stride of images.

    Only the first D coordinates count, as all K add up to zero.
    """
    corners = len(features) + 1
    highest = [float(f.table.max()) * _scale(axis, corners) for axis, f in enumerate(features)]
    margin = 4 * corners  # of rounding, of the other corners, of their neighbors
    strides, lowest, stride = [], [], 1
    for axis in range(len(features)):
        low = -axis * highest[axis - 1] if axis else 0.0
        span = math.ceil(sum(highest[axis:]) - low) + 2 * margin
        strides.append(stride)
        lowest.append(math.floor(low) - margin)
        stride *= span
    return strides, lowest, stride


def _closest_simplex(
    elevated: Tensor, strides: Sequence[int], lowest: Sequence[int]
) -> tuple[Tensor, Tensor, Tensor]:
    """Of each pixel: its corner number 0 (N,), the ranks of its axes, and the rest (N, K).

    Ranks order the axes by the distance to that corner, the nearest to the top being 0.
    """
    corners = elevated.shape[1]
    inverse = float(np.float32(1) / np.float32(corners))
    rounded = (elevated * inverse).round()  # halves to even
    origin = rounded * corners
    distance = elevated - origin
    rank = torch.zeros(elevated.shape, dtype=torch.int64, device=elevated.device)
    for first in range(corners):
        for second in range(first + 1, corners):
            below = distance[:, first] < distance[:, second]
            rank[:, first] += below
            rank[:, second] += ~below
    rank += rounded.sum(1, keepdim=True).long()  # off the plane: the ranks turn around
    turned = (rank < 0).long() - (rank >= corners).long()
    rank += corners * turned
    origin = origin + corners * turned
    base = torch.zeros(len(elevated), dtype=torch.int64, device=elevated.device)
    for axis, (stride, low) in enumerate(zip(strides, lowest, strict=True)):
        base += (origin[:, axis].long() - low) * stride
    return base, rank, (elevated - origin) * inverse


def _connect(keys: Tensor, weights: Tensor, strides: Sequence[int]) -> Lattice:
    """The lattice of the corners (N, K) of all pixels."""
    corners = keys.shape[1]
    ordered, order = keys.flatten().sort(stable=True)
    is_first = torch.ones_like(ordered, dtype=torch.bool)
    is_first[1:] = ordered[1:] != ordered[:-1]
    starts = is_first.nonzero()[:, 0]
    points = ordered[starts]
    place = torch.empty(len(ordered), dtype=torch.int32, device=keys.device)
    place[order] = is_first.cumsum(0, dtype=torch.int32) - 1
    end = torch.tensor([len(ordered)] * 2, device=keys.device)
    return Lattice(
        corners=place.view(keys.shape),
        weights=weights,
        pixels=(order // corners).int(),
        pixel_weights=weights.flatten()[order],
        starts=torch.cat([starts, end]).int(),
        neighbors=_neighbors(points, strides),
    )


def _neighbors(points: Tensor, strides: Sequence[int]) -> Tensor:
    """The neighbors (K, M + 1, 2) of each point: K - 1 steps up one axis, one down all others."""
    count, corners = len(points), len(strides) + 1
    tables = torch.full((corners, count + 1, 2), count, dtype=torch.int32, device=points.device)
    numbers = torch.arange(count, dtype=torch.int32, device=points.device)
    for axis in range(corners):
        step = -sum(strides) + (corners * strides[axis] if axis < len(strides) else 0)
        wanted = points + step
        positions = torch.searchsorted(points, wanted, out_int32=True).clamp_(max=count - 1)
        there = points[positions] == wanted
        tables[axis, :count, 0] = torch.where(there, positions, count)
        # A point is the opposite neighbor of its neighbor; what has none writes the last row.
        tables[axis, :, 1].scatter_(0, torch.where(there, positions, count).long(), numbers)
        tables[axis, count] = count
    return tables
