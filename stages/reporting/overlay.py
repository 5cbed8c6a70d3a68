"""Masks and response maps drawn over their image, and images as data URLs.

Reports show small gray images (at most `SIDE` pixels a side) under masks in color; `risflow
predict` and `risflow serve` draw over the image itself. Nothing here imports torch.

Shapes: masks and response maps are (H, W), of the size of their image.
"""

import base64
import io
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from stages.storage.masks import Mask

SIDE = 144  # pixels of the longer side of an image in a report
Color = tuple[int, int, int]
PREDICTION: Color = (0, 114, 178)  # blue
GROUND_TRUTH: Color = (0, 158, 115)  # green
OUTLINE: Color = (230, 159, 0)  # orange, of the ground truth over a prediction
IGNORED: Color = (150, 150, 150)
HEAT_WEIGHT = 0.6  # of the colors of a heat map; 0.4 is the image's
RANGE_SMALL = 1e-5  # official: avoids a division by zero for a map without a response


def thumbnail(image: Image.Image) -> Image.Image:
    """The image at the size that it has in a report."""
    return image.convert("RGB").resize(
        size_within(image, SIDE, enlarge=True), Image.Resampling.BICUBIC
    )


def mask_thumbnail(
    image: Image.Image, mask: Mask, color: Color, ignore: Mask | None = None
) -> Image.Image:
    """The image in gray, the mask in color, and pixels that are ignored in light gray."""
    pixels = _blend(_gray(image), mask, color)
    if ignore is not None:
        pixels = _blend(pixels, ignore, IGNORED)
    return thumbnail(Image.fromarray(pixels.astype(np.uint8)))


def comparison_thumbnail(image: Image.Image, prediction: Mask, ground_truth: Mask) -> Image.Image:
    """The image in gray, the prediction in color, and the outline of the ground truth."""
    size = size_within(image, SIDE, enlarge=True)
    predicted, true = resized(prediction, size), resized(ground_truth, size)
    pixels = _blend(_gray(image.resize(size, Image.Resampling.BICUBIC)), predicted, PREDICTION)
    pixels[outline(true, width=2)] = OUTLINE
    return Image.fromarray(pixels.astype(np.uint8))


def mask_overlay(image: Image.Image, mask: Mask) -> Image.Image:
    """The image with its mask in color and a white outline around it."""
    pixels = np.array(image.convert("RGB"))  # 8 bits: images of users can be large
    pixels[mask] = pixels[mask] // 2 + np.array(PREDICTION, np.uint8) // 2
    pixels[outline(mask)] = 255
    return Image.fromarray(pixels)


def response_overlay(image: Image.Image, response: NDArray[np.float32]) -> Image.Image:
    """The image in gray, from dark to bright yellow where a response is stronger.

    The weakest color stands for 0, or for the lowest response if that is negative.
    """
    low, high = min(0.0, float(response.min())), float(response.max())
    strength = (response - low) / max(high - low, 1e-9)
    pixels = color_responses(strength)
    opacity = response_opacity(strength)
    dimmed = np.asarray(image.convert("L"), np.float32) * (1 - opacity)
    for channel in range(3):  # one at a time: images of users can be large
        pixels[..., channel] = dimmed + opacity * pixels[..., channel]
    return Image.fromarray(pixels)


def heat_map(image: Image.Image, response: NDArray[np.float32]) -> Image.Image:
    """The image under the colors of a response map, from blue (none) to red (its highest value).

    As TRIS's demo.py draws it: negative responses are none, and the colors weigh 0.6.
    """
    import matplotlib  # takes a while to import

    positive = response.clip(min=0)
    low, high = float(positive.min()), float(positive.max())
    strength = (positive - low) / (high - low + RANGE_SMALL)
    pixels = matplotlib.colormaps["jet"](strength, bytes=True)[..., :3].copy()
    seen = np.asarray(image.convert("RGB"))
    for channel in range(3):  # one at a time: images of users can be large
        mixed = np.float32(HEAT_WEIGHT) * pixels[..., channel]
        mixed += np.float32(1 - HEAT_WEIGHT) * seen[..., channel]
        pixels[..., channel] = mixed.round()
    return Image.fromarray(pixels)


def color_responses(strength: NDArray[Any]) -> NDArray[np.uint8]:
    """The RGB values (..., 3) of responses from 0, the weakest, to 1."""
    import matplotlib  # takes a while to import

    colors = matplotlib.colormaps["inferno"](0.2 + 0.75 * strength, bytes=True)
    return np.asarray(colors)[..., :3].copy()


def response_opacity(strength: NDArray[Any]) -> NDArray[Any]:
    """How much of the image the color of a response covers, from 0 to 1."""
    return np.asarray(0.85 * np.sqrt(strength))


def response_colors(count: int) -> list[str]:
    """Colors of a response overlay from the weakest to the strongest, as CSS has them."""
    return [f"rgb({r}, {g}, {b})" for r, g, b in color_responses(np.linspace(0, 1, count))]


def mask_image(mask: Mask) -> Image.Image:
    """The mask alone, white on black."""
    return Image.fromarray(mask.astype(np.uint8) * 255)


def outline(mask: Mask, width: int = 1) -> Mask:
    """Pixels of a mask that are at most `width` steps from its outside or from the border."""
    inner = mask
    for _ in range(width):
        padded = np.pad(inner, 1)
        neighbors = padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
        inner = inner & neighbors
    return mask & ~inner


def data_url(image: Image.Image) -> str:
    """The image as a data URL."""
    return content_url(encode_image(image), "png" if image.mode == "L" else "jpeg")


def content_url(content: bytes, kind: str) -> str:
    """The content of an image file as a data URL."""
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"


def encode_image(image: Image.Image) -> bytes:
    """The image as the content of a file: JPEG, or PNG of a mask."""
    content = io.BytesIO()
    image.save(content, "png" if image.mode == "L" else "jpeg", quality=85)
    return content.getvalue()


def _gray(image: Image.Image) -> NDArray[np.float64]:
    values = np.asarray(image.convert("L"), dtype=np.float64)
    return np.repeat(values[..., None], 3, axis=2)


def _blend(pixels: NDArray[np.float64], mask: Mask, color: Color) -> NDArray[np.float64]:
    result = pixels.copy()
    result[mask] = 0.35 * pixels[mask] + 0.65 * np.array(color)
    return result


def size_within(image: Image.Image, side: int, enlarge: bool = False) -> tuple[int, int]:
    """Width and height of an image whose longer side is made `side` pixels.

    A smaller image keeps its size without `enlarge`.
    """
    factor = side / max(image.size)
    if not enlarge:
        factor = min(1.0, factor)
    return max(1, round(image.width * factor)), max(1, round(image.height * factor))


def resized(mask: Mask, size: tuple[int, int]) -> Mask:
    """A mask at another width and height."""
    return np.asarray(Image.fromarray(mask).resize(size, Image.Resampling.NEAREST))
