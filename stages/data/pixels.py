"""What the values of an image mean, whatever its mode: colors, or an object and what is none.

Modes whose values have no fixed range (floating point, 32-bit integers) are refused with a remedy:
any scale would be a guess.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from stages.storage.masks import Mask

SIXTEEN_BITS = ("I;16", "I;16L", "I;16B", "I;16N")
# Of the formats that are opened, those that keep about the values of pixels, or can (WebP).
LOSSY = ("JPEG", "MPO", "WEBP")
FAINTEST = 16  # of 255: the highest value of a lossy mask that can be told from its noise
UNCLEAR = 0.5  # pixels that are neither dark nor bright, as a fraction of the object's
# What Pillow raises for damaged files.
IMAGE_ERRORS = (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError)


def has_sixteen_bits(image: Image.Image) -> bool:
    """Whether values go to 65535; Pillow gives those of PGM a mode of 32 bits."""
    return image.mode in SIXTEEN_BITS or (image.mode == "I" and image.format in ("PPM", "PNG"))


def color_fault(image: Image.Image) -> str | None:
    """Why the colors of an image are not known; None if they are. Decodes nothing."""
    if image.mode == "F":
        return "floating-point values, whose range is not known; save it with 8 or 16 bits"
    if image.mode.startswith("I") and not has_sixteen_bits(image):
        return f"32-bit values (mode {image.mode}), whose range is not known; save it with 8 or 16"
    if image.mode == "LAB":
        return "colors in L*a*b*; save it in RGB"
    return None


def to_rgb(image: Image.Image) -> Image.Image:
    """RGB of 8 bits; transparency is dropped. Raises ValueError where colors are not known."""
    fault = color_fault(image)
    if fault is not None:
        raise ValueError(fault)
    if has_sixteen_bits(image):  # Pillow would clip at 255
        return Image.fromarray(
            (np.asarray(image).astype(np.int64).clip(0, 65535) // 257).astype(np.uint8)
        ).convert("RGB")
    return image.convert("RGB")


def object_pixels(image: Image.Image, source: str | None = None) -> tuple[Mask, str | None]:
    """The pixels (H, W) of the object in a mask image, and what is to be told of it, if anything.

    Palettes and transparency are resolved first: colors decide, and what is transparent is none.
    Then a pixel is of the object if any channel is above 0. Lossy formats (`source`) change values
    near edges: there a pixel is of the object above half of the highest value.

    Raises ValueError, with a remedy, for modes and values that say nothing of an object.
    """
    values = _brightest_channel(image)
    if source not in LOSSY:
        return values > 0, None
    highest = int(values.max(initial=0))
    if highest == 0:
        return values > 0, None
    if highest < FAINTEST:
        raise ValueError(f"values up to {highest} in a lossy format ({source}); save it as PNG")
    inside = values > highest / 2
    unclear = (values > highest / 4) & (values < highest * 3 / 4)
    if unclear.sum() > UNCLEAR * inside.sum():
        raise ValueError(
            f"gray or colored in a lossy format ({source}), not black and white; save it as PNG"
        )
    faint = int(((values > 0) & ~inside).sum() + unclear.sum())
    told = f"saved as {source}, which changes values: {faint} unclear pixels; save masks as PNG"
    return inside, told if faint else None


def _brightest_channel(image: Image.Image) -> NDArray[Any]:
    """The highest color value of each pixel (H, W), 0 where it is transparent."""
    if getattr(image, "n_frames", 1) > 1:
        raise ValueError("several frames or pages; needed one")
    if image.mode in ("CMYK", "LAB", "HSV", "YCbCr"):
        raise ValueError(f"mode {image.mode}, in which 0 is not black; save it as black and white")
    is_keyed = "transparency" in image.info
    if is_keyed and image.mode not in ("1", "L", "P", "RGB"):
        raise ValueError(f"transparent values in mode {image.mode}; save it as black and white")
    if is_keyed or image.mode in ("P", "PA", "RGBa", "La"):
        image = image.convert("RGBA" if is_keyed or image.mode != "P" else "RGB")
    if image.mode in ("RGBA", "LA"):
        return _visible(np.asarray(image))
    values = np.asarray(image)
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        raise ValueError("values that are no numbers (nan, infinity); needed 0 and above")
    if values.dtype.kind in "if" and (values < 0).any():
        raise ValueError("values below 0; needed 0 where no object is, and above 0 where it is")
    return values.max(axis=2) if values.ndim == 3 else values


def _visible(values: NDArray[Any]) -> NDArray[Any]:
    """Colors over black: the last channel is how opaque a pixel is."""
    colors, opaque = values[:, :, :-1].max(axis=2), values[:, :, -1]
    if not colors.any() and opaque.min(initial=255) < opaque.max(initial=0):
        raise ValueError(
            "black, with transparency: the object can be either; save it as black and white"
        )
    return np.where(opaque > 0, colors, 0)
