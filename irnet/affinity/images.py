"""Input images of the inter-pixel relation network, at a multiple of their own size."""

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from stages.data.images import normalize, read_image
from stages.runtime.errors import InputError

Rgb = NDArray[np.uint8]


def read_rgb(file: str, width: int, height: int) -> Rgb:
    """The image (height, width, 3) of a row of the images table."""
    image = np.array(read_image(file))
    if image.shape[:2] != (height, width):
        size = f"{image.shape[1]} x {image.shape[0]}"
        raise InputError(f"{file}: {size} pixels; the samples say {width} x {height}")
    return image


def scaled(side: int, scale: float) -> int:
    """A side in pixels at another scale, at least one."""
    return max(1, round(side * scale))


def resize(image: NDArray[np.uint8], scale: float, resample: Image.Resampling) -> NDArray[np.uint8]:
    """An image (H, W, 3) or labels (H, W) at another scale."""
    height, width = (scaled(side, scale) for side in image.shape[:2])
    if (height, width) == image.shape[:2]:
        return image
    return np.asarray(Image.fromarray(image).resize((width, height), resample))


def network_input(image: Rgb, scale: float, device: torch.device | None = None) -> Tensor:
    """The normalized tensor (3, scale H, scale W) of an image (H, W, 3), made on the device."""
    enlarged = resize(image, scale, Image.Resampling.BICUBIC)
    return normalize(torch.from_numpy(enlarged.transpose(2, 0, 1).copy()).to(device))
