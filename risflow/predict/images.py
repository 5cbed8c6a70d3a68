"""Images of users: checked and read."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from stages.data.formats import open_image, require_size
from stages.runtime.errors import InputError

MOST_PIXELS = 50_000_000  # of an image: each expression's map needs 4 bytes a pixel

ImageLike = str | Path | Image.Image | NDArray[np.uint8]


def load_image(image: ImageLike, most_pixels: int) -> Image.Image:
    """The image as RGB, upright. Raises InputError if it cannot be read or has too many pixels."""
    if isinstance(image, np.ndarray):
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
            found = f"{image.dtype} {image.shape}"
            raise InputError(f"image: {found}; needed RGB values (H, W, 3) of 8 bits")
        image = Image.fromarray(image)
    if isinstance(image, Image.Image):
        require_size("image", image.size, most_pixels)
        return image.convert("RGB")
    from stages.data.images import read_image  # imports torch, which checks do not need

    return read_image(image, most_pixels)


def require_image(path: str | Path, most_pixels: int) -> None:
    """Raises InputError if there is no image, or one of too many pixels; decodes nothing."""
    try:
        with open_image(path, most_pixels):
            pass
    except FileNotFoundError:
        raise InputError(f"{path}: no such image") from None
    except (UnidentifiedImageError, OSError, SyntaxError) as error:
        raise InputError(f"{path}: not a readable image ({error})") from None
