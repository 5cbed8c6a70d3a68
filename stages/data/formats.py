"""Opens images of a few formats only; every image that the project reads is opened here.

Pillow knows dozens of formats. EPS starts Ghostscript, ICO is decoded before its size can be
checked, ICNS leaks memory: none of them is tried. Nothing here imports torch.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from math import ceil
from pathlib import Path
from threading import RLock
from typing import IO

from PIL import Image

from stages.runtime.errors import InputError

# As Pillow names them, and how the names of their files end.
FORMATS = {
    "JPEG": (".jpg", ".jpeg"),
    "PNG": (".png",),
    "WEBP": (".webp",),
    "BMP": (".bmp",),
    "TIFF": (".tif", ".tiff"),
    "GIF": (".gif",),
    "PPM": (".ppm",),
}
ENDINGS = tuple(ending for endings in FORMATS.values() for ending in endings)

_pillow_limit = RLock()  # of pixels, which is the same for all threads


@contextmanager
def open_image(
    file: Path | str | IO[bytes], most_pixels: int | None = None
) -> Iterator[Image.Image]:
    """An opened image, not decoded yet.

    With `most_pixels`, raises InputError for an image that has more; else Pillow's own limit holds.
    Raises what Pillow raises for a file of another format or a damaged header.
    """
    if most_pixels is None:
        with Image.open(file, formats=tuple(FORMATS)) as opened:
            yield opened
        return
    with _no_limit_of_pillow(), Image.open(file, formats=tuple(FORMATS)) as opened:
        require_size(str(file), opened.size, most_pixels)
        yield opened


def require_size(place: str, size: tuple[int, int], most_pixels: int) -> None:
    """Raises InputError for an image (width, height) of too many pixels."""
    width, height = size
    if width * height > most_pixels:
        raise InputError(
            f"{place}: {width} x {height} is {ceil(width * height / 1e5) / 10:g} megapixels;"
            f" at most {most_pixels / 1e6:g} are taken"
        )


@contextmanager
def _no_limit_of_pillow() -> Iterator[None]:
    with _pillow_limit:
        limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            yield
        finally:
            Image.MAX_IMAGE_PIXELS = limit
