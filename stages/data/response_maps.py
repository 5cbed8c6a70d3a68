"""From the low-resolution response of the model to the map at the image's own size.

TRIS resizes twice: to the size the network saw, then, after dropping negative responses, to the
image's size (official model/model_stage1.py and validate.py). Both are linear except for the relu,
so it is enough to store the grid.

Shapes: P maps of h x w cells, S x S pixels seen by the network, H x W pixels of the image.
"""

import torch.nn.functional as F
from torch import Tensor

SMALL = 1e-5  # official: avoids a division by zero for an empty response


def upsample(grids: Tensor, size: int | tuple[int, int]) -> Tensor:
    """Responses (P, h, w) at the size the network saw: (P, S, S), or (P, *size)."""
    size_seen = (size, size) if isinstance(size, int) else size
    maps = F.interpolate(grids[:, None], size_seen, mode="bilinear", align_corners=False)
    return maps[:, 0]


def resize(maps: Tensor, shape: tuple[int, int]) -> Tensor:
    """Maps (P, S, S) at another size (P, H, W); corners stay corners."""
    if maps.shape[1:] == shape:
        return maps
    return F.interpolate(maps[:, None], shape, mode="bilinear", align_corners=True)[:, 0]


def full_map(grids: Tensor, size: int | tuple[int, int], shape: tuple[int, int]) -> Tensor:
    """Non-negative responses (P, H, W) at image size from grids (P, h, w) before relu.

    `size` is the side of the image that the network saw (the stage's image_size).
    """
    return resize(upsample(grids, size).relu(), shape)


def normalize(maps: Tensor) -> Tensor:
    """Maps (P, H, W) divided by their maximum, as IRNet's thresholds expect."""
    return maps / (maps.amax(dim=(1, 2), keepdim=True) + SMALL)
