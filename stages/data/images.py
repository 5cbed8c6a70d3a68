"""Images and masks as the models see them: read, resized, normalized."""

from functools import cache
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from stages.data.formats import open_image
from stages.data.orientation import decode_upright
from stages.data.pixels import IMAGE_ERRORS, to_rgb
from stages.runtime.errors import InputError
from stages.storage.masks import Mask

MEAN = (0.485, 0.456, 0.406)  # ImageNet's, which TRIS also gives to CLIP
DEVIATION = (0.229, 0.224, 0.225)


def read_image(path: Path | str, most_pixels: int | None = None) -> Image.Image:
    """The image as RGB, upright. Raises InputError that names a missing or damaged file.

    With `most_pixels`, raises it for an image of more, before it is decoded.
    Gray, palette, CMYK and 16-bit images become RGB of 8 bits; transparency is dropped.
    """
    try:
        with open_image(path, most_pixels) as opened:
            return to_rgb(decode_upright(opened))
    except FileNotFoundError:
        raise InputError(f"{path}: no such image") from None
    except InputError:
        raise
    except IMAGE_ERRORS as error:
        raise InputError(f"{path}: not a readable image ({error})") from None


def square(image: Image.Image, size: int) -> Tensor:
    """The image resized to size x size without keeping its aspect ratio: uint8 (3, size, size).

    Pillow's antialiased bilinear filter, as the official transform.py does through torchvision.
    """
    resized = image.resize((size, size), Image.Resampling.BILINEAR)
    return torch.from_numpy(np.array(resized)).permute(2, 0, 1).contiguous()


def square_mask(mask: Mask, size: int) -> Tensor:
    """A mask (H, W) resized by Pillow's nearest neighbor: bool (size, size)."""
    if mask.shape == (size, size):
        return torch.from_numpy(mask)
    resized = Image.fromarray(mask).resize((size, size), Image.Resampling.NEAREST)
    return torch.from_numpy(np.array(resized))


def normalize(
    images: Tensor, mean: tuple[float, ...] = MEAN, deviation: tuple[float, ...] = DEVIATION
) -> Tensor:
    """uint8 images (B, 3, H, W) to float32 with a mean and standard deviation (ImageNet's)."""
    center, spread = _constants(mean, deviation, images.device)
    return (images.float() / 255 - center) / spread


@cache
def _constants(
    mean: tuple[float, ...], deviation: tuple[float, ...], device: torch.device
) -> tuple[Tensor, Tensor]:
    """Both as (3, 1, 1), uploaded once."""
    center, spread = (torch.tensor(values, device=device) for values in (mean, deviation))
    return center.view(3, 1, 1), spread.view(3, 1, 1)
