"""Pairs of cells within a radius, and their affinity along the straight path between them.

Ahn et al. (IRNet, CVPR 2019), section 4.1; official misc/indexing.py. Pairs are described by
offsets, not by index tables of a grid: a path is a few shifted windows of the grid, of any size.

Shapes: B images, D directions, H x W grid, h x w windows of source cells (h = H - r,
w = W - 2 r with r = radius - 1): every pair of a source cell lies inside the grid.
"""

from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

BACKGROUND, FOREGROUND, IGNORE = 0, 1, 255


@dataclass(frozen=True)
class Direction:
    """The offset of a pair and the cells between its ends, as (down, right) offsets."""

    down: int
    right: int
    path: tuple[tuple[int, int], ...]  # from the far end to the near one, both included


@lru_cache(maxsize=8)
def directions(radius: int) -> tuple[Direction, ...]:
    """Half of all offsets shorter than `radius` (the other half are their opposites).

    The order, short paths first, is the official one: it is the order of every D axis here.
    """
    offsets = [(0, right) for right in range(1, radius)]
    offsets += [
        (down, right)
        for down in range(1, radius)
        for right in range(1 - radius, radius)
        if down * down + right * right < radius * radius
    ]
    pairs = [Direction(down, right, _path(down, right)) for down, right in offsets]
    return tuple(sorted(pairs, key=lambda direction: len(direction.path)))


def _path(down: int, right: int) -> tuple[tuple[int, int], ...]:
    """Cells of the bounding box less than one cell away from the line to (down, right)."""
    columns = range(min(0, right), max(0, right) + 1)
    length_squared = down * down + right * right
    cells = [
        (y, x)
        for y in range(down + 1)
        for x in columns
        if (down * x - right * y) ** 2 < length_squared
    ]
    return tuple(sorted(cells, key=lambda cell: -abs(cell[0]) - abs(cell[1])))


def window(grid: Tensor, down: int, right: int, radius: int) -> Tensor:
    """The cells (..., h, w) that lie at an offset from the source cells of a grid (..., H, W)."""
    reach = radius - 1
    height, width = grid.shape[-2] - reach, grid.shape[-1] - 2 * reach
    return grid[..., down : down + height, reach + right : reach + right + width]


def path_affinity(edge: Tensor, radius: int) -> Tensor:
    """One minus the strongest edge on the path of every pair: (B, H, W) to (B, D, h, w)."""
    strongest = []
    for direction in directions(radius):
        cells = [window(edge, down, right, radius) for down, right in direction.path]
        strongest.append(torch.stack(cells).max(dim=0).values)
    return 1 - torch.stack(strongest, dim=1)


def pair_displacement(displacement: Tensor, radius: int) -> Tensor:
    """Displacement of the near end minus that of the far end: (B, 2, H, W) to (B, 2, D, h, w)."""
    near = window(displacement, 0, 0, radius)
    far = [window(displacement, pair.down, pair.right, radius) for pair in directions(radius)]
    return near.unsqueeze(2) - torch.stack(far, dim=2)


@dataclass(frozen=True)
class PairLabels:
    """Which pairs (B, D, h, w) are both background, both foreground, or of two kinds."""

    background: Tensor
    foreground: Tensor
    different: Tensor


def pair_labels(labels: Tensor, radius: int) -> PairLabels:
    """Kinds of the pairs of a label grid (B, H, W) of BACKGROUND, FOREGROUND and IGNORE."""
    near = window(labels, 0, 0, radius).unsqueeze(1)
    far = torch.stack(
        [window(labels, pair.down, pair.right, radius) for pair in directions(radius)], dim=1
    )
    known = (near != IGNORE) & (far != IGNORE)
    return PairLabels(
        background=(near == BACKGROUND) & (far == BACKGROUND),
        foreground=(near == FOREGROUND) & (far == FOREGROUND),
        different=(near != far) & known,
    )
