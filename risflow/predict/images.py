"""Pictures that users give, and masks drawn over them."""

import base64
import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from stages.runtime.errors import InputError
from stages.storage.masks import Mask

MOST_PIXELS = 50_000_000  # of a picture: a map of each expression is as large, in 4 bytes a pixel
COLOR = (0, 114, 178)  # of masks, as in the report


def read_picture(picture: str | Path | Image.Image | NDArray[np.uint8], most: int) -> Image.Image:
    """Any picture as RGB, upright. Raises InputError where it is none or has too many pixels."""
    if isinstance(picture, np.ndarray):
        if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3:
            found = f"{picture.dtype} {picture.shape}"
            raise InputError(f"image: {found}; needed RGB values (H, W, 3) of 8 bits")
        picture = Image.fromarray(picture)
    if isinstance(picture, Image.Image):
        _require_size("image", picture.size, most)
        return picture.convert("RGB")
    from stages.data.images import read_image  # imports torch: not for what only checks

    require_picture(picture, most)
    with _own_limit():
        return read_image(picture)


def require_picture(path: str | Path, most: int) -> None:
    """Raises InputError where there is no picture, or one of too many pixels; decodes nothing."""
    try:
        with _own_limit(), Image.open(path) as opened:
            _require_size(str(path), opened.size, most)
    except FileNotFoundError:
        raise InputError(f"{path}: no such image") from None
    except (UnidentifiedImageError, OSError, SyntaxError) as error:
        raise InputError(f"{path}: not a readable image ({error})") from None


@contextmanager
def _own_limit() -> Iterator[None]:
    """Pillow's own limit of pixels is off: ours, which can be raised, holds instead."""
    limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
    try:
        yield
    finally:
        Image.MAX_IMAGE_PIXELS = limit


def _require_size(place: str, size: tuple[int, int], most: int) -> None:
    width, height = size
    if width * height > most:
        raise InputError(
            f"{place}: {width} x {height} is {width * height / 1e6:.0f} megapixels;"
            f" at most {most / 1e6:g} are taken"
        )


def overlay(image: Image.Image, mask: Mask) -> Image.Image:
    """The picture with its mask (H, W) in color and an outline around it."""
    pixels = np.array(image)
    pixels[mask] = pixels[mask] // 2 + np.array(COLOR, np.uint8) // 2
    pixels[outline(mask)] = 255
    return Image.fromarray(pixels)


def outline(mask: Mask) -> Mask:
    """The pixels of a mask beside one that is outside of it, or of the picture."""
    padded = np.pad(mask, 1)
    inner = padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    return mask & ~inner


def shape_of(mask: Mask) -> Image.Image:
    """A mask (H, W) alone, white on black."""
    return Image.fromarray(mask.astype(np.uint8) * 255)


def heat(image: Image.Image, response: NDArray[np.float32]) -> Image.Image:
    """The picture in gray under its response map (H, W): dark where low, yellow where highest."""
    import matplotlib  # takes a while to import: for the page only

    low, high = float(response.min()), float(response.max())
    strength = (response - low) / max(high - low, 1e-9)
    warm = matplotlib.colormaps["inferno"](strength, bytes=True)[..., :3]
    return Image.blend(image.convert("L").convert("RGB"), Image.fromarray(warm), 0.75)


def as_data(image: Image.Image, side: int) -> str:
    """A picture, at most `side` pixels wide and high, as an address that holds it."""
    small = image.copy()
    small.thumbnail((side, side))
    written = io.BytesIO()
    small.save(written, "PNG" if small.mode == "L" else "JPEG", quality=88)
    kind = "png" if small.mode == "L" else "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(written.getvalue()).decode()}"
