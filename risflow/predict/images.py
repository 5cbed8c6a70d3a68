"""Images of users: checked and read."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from stages.data.formats import open_image, require_size
from stages.data.pixels import IMAGE_ERRORS, color_fault, to_rgb
from stages.runtime.errors import InputError
from stages.runtime.foreign_errors import unreadable

MOST_PIXELS = 50_000_000  # of an image: each expression's map needs 4 bytes a pixel

ImageLike = str | Path | Image.Image | NDArray[np.uint8]


def load_image(image: ImageLike, most_pixels: int) -> Image.Image:
    """The image as RGB, upright. Raises InputError if it cannot be read or has too many pixels."""
    if isinstance(image, np.ndarray):
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
            given = f"{image.dtype} {image.shape}"
            raise InputError(f"image: {given}; needed RGB values (H, W, 3) of 8 bits")
        image = Image.fromarray(image)
    if isinstance(image, Image.Image):
        require_size("image", image.size, most_pixels)
        try:
            return to_rgb(image)
        except ValueError as error:
            raise InputError(f"image: {error}") from None
    from stages.data.images import read_image  # imports torch, which checks do not need

    return read_image(image, most_pixels)


def require_image(path: str | Path, most_pixels: int) -> None:
    """Raises InputError if there is no image, or one of too many pixels; decodes nothing."""
    try:
        with open_image(path, most_pixels) as opened:
            if (fault := color_fault(opened)) is not None:
                raise InputError(f"{path}: {fault}")
    except FileNotFoundError:
        raise InputError(f"{path}: no such image") from None
    except IsADirectoryError:
        raise InputError(f"{path}: not a readable image (a folder)") from None
    except InputError:
        raise
    except IMAGE_ERRORS as error:
        raise InputError(
            f"{path}: not a readable image ({unreadable(Path(path), error)})"
        ) from None
