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

CHECK_EVERY = 20  # refinement steps between two looks at whether anything still moves


def refine_centers(displacement: Tensor, steps: int) -> Tensor:
    """The cell (B, 2, H, W) that each cell ends at when it follows its field `steps` times.

    Positions are float32, moves float64, as in the official code: the ends are rounded, so another
    precision would move some. Stops as soon as no position changes, which changes no result.
    """
    sizes = displacement.shape[2:]
    last = displacement.new_tensor(sizes)[None, None, None] - 1  # (down, right)
    sides = [torch.arange(side, device=last.device).float() for side in sizes]
    position = torch.stack(torch.meshgrid(*sides, indexing="ij"), dim=-1)  # (H, W, 2)
    position = position.expand(len(displacement), -1, -1, -1)
    field = displacement.double()
    to_unit = 2 / last.double().clamp_min(1)
    for step in range(steps):
        unit = (position * to_unit - 1).flip(-1)  # (right, down) in [-1, 1]
        move = F.grid_sample(field, unit, padding_mode="border", align_corners=True)
        moved = (position + move.permute(0, 2, 3, 1)).float().clamp_min(0).minimum(last)
        if step % CHECK_EVERY == 0 and torch.equal(moved, position):
            break
        position = moved
    return position.round().long().permute(0, 3, 1, 2)


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
