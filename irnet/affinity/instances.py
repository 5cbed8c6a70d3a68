"""Instances of an image from its displacement field: cells that point at one center are one.

Ahn et al. (IRNet, CVPR 2019), section 5.1; official step_refer/make_ins_seg_labels.py.

Shapes: B images; H x W grid; displacement fields (B, 2, H, W) hold (down, right) offsets in cells.
"""

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from skimage.measure import label as connected_components
from torch import Tensor

CHECK_EVERY = 20  # refinement steps between two looks at what still moves


def refine_centers(displacement: Tensor, steps: int) -> Tensor:
    """The cell (B, 2, H, W) that each cell ends at when it follows its field `steps` times.

    Positions are float32, moves float64, as in the official code: the ends are rounded, so another
    precision would move some. Stops as soon as no position changes, and follows cells of an image
    that have met as one: neither changes a result.
    """
    images, _, height, width = displacement.shape
    sides = [torch.arange(side, device=displacement.device) for side in (height, width)]
    rows, columns = torch.meshgrid(*sides, indexing="ij")
    position = torch.stack([columns, rows]).float().flatten(1)  # (right, down)
    position = position.expand(images, -1, -1)  # (B, 2, P) of P points
    point = (rows * width + columns).flatten()  # of each cell
    field = displacement.flip(1).double()  # (right, down)
    last = displacement.new_tensor([width - 1, height - 1])[:, None]
    first, to_unit = torch.zeros_like(last), 2 / last.double().clamp_min(1)
    for step in range(steps):
        unit = (position * to_unit - 1).transpose(1, 2)[:, None]  # (B, 1, P, 2) in [-1, 1]
        move = F.grid_sample(field, unit, padding_mode="border", align_corners=True)
        moved = (position + move[:, :, 0]).float().clamp(first, last)
        if step % CHECK_EVERY == 0:
            if torch.equal(moved, position):
                break
            if images == 1:
                moved, now = _met(moved)
                point = now[point]
        position = moved
    ends = position[:, :, point].flip(1).round().long()
    return ends.unflatten(2, (height, width))


def _met(points: Tensor) -> tuple[Tensor, Tensor]:
    """The different points (1, 2, Q) of points (1, 2, P), and for each of P its number in Q."""
    pairs = points[0].T.contiguous().view(torch.int64)[:, 0]  # two float32 as one integer
    different, number = pairs.unique(return_inverse=True)
    return different[:, None].view(torch.float32).T[None].contiguous(), number


def group_centers(
    centers: NDArray[np.int64], displacement: NDArray[np.float32], threshold: float
) -> NDArray[np.int64]:
    """The instance (H, W), from 0, of each cell: its center's region of weak displacement.

    Centers outside all regions of displacement under `threshold` form one instance of their own.
    """
    weak = np.sqrt(displacement[1] ** 2 + displacement[0] ** 2) < threshold
    regions = connected_components(weak, connectivity=1, background=0)
    _, instance = np.unique(regions[centers[0], centers[1]], return_inverse=True)
    return instance.reshape(weak.shape)


def find_instances(displacement: Tensor, steps: int, threshold: float) -> NDArray[np.int64]:
    """The instance (B, H, W), from 0, of each cell of displacement fields (B, 2, H, W)."""
    centers = refine_centers(displacement, steps).cpu().numpy()
    fields = displacement.cpu().numpy()
    return np.stack(
        [
            group_centers(center, field, threshold)
            for center, field in zip(centers, fields, strict=True)
        ]
    )
