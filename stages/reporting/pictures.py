"""Small pictures of masks and response maps over their image."""

import base64
import io

import matplotlib
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import binary_erosion

from stages.storage.masks import Mask

SIDE = 144  # pixels of the longer side
PREDICTED = (0, 114, 178)  # blue
TRUE = (0, 158, 115)  # green
OUTLINE = (230, 159, 0)  # orange, of the true mask over a predicted one
IGNORED = (150, 150, 150)


def plain(image: Image.Image) -> Image.Image:
    """The image itself."""
    return _small(image)


def over(
    image: Image.Image, mask: Mask, color: tuple[int, int, int], ignore: Mask | None = None
) -> Image.Image:
    """The image in gray, with a mask in color, and what is neither in or out in light gray."""
    pixels = _gray(image)
    pixels = _blend(pixels, mask, color)
    if ignore is not None:
        pixels = _blend(pixels, ignore, IGNORED)
    return _small(Image.fromarray(pixels.astype(np.uint8)))


def against(image: Image.Image, prediction: Mask, truth: Mask) -> Image.Image:
    """The image in gray, with a prediction in color and the outline of the truth."""
    size = _size(image)
    found, true = _resized(prediction, size), _resized(truth, size)
    pixels = _blend(_gray(image.resize(size, Image.Resampling.BICUBIC)), found, PREDICTED)
    pixels[true & ~binary_erosion(true, iterations=2)] = OUTLINE
    return Image.fromarray(pixels.astype(np.uint8))


def _resized(mask: Mask, size: tuple[int, int]) -> Mask:
    return np.asarray(Image.fromarray(mask).resize(size, Image.Resampling.NEAREST))


def heat(image: Image.Image, response: NDArray[np.float32]) -> Image.Image:
    """The image in gray, from dark to bright yellow where a response (H, W) is stronger."""
    strength = (response / max(float(response.max()), 1e-9))[..., None]
    warm = matplotlib.colormaps["inferno"](0.2 + 0.75 * strength[..., 0])[..., :3] * 255
    weight = 0.85 * np.sqrt(strength)
    return _small(Image.fromarray((_gray(image) * (1 - weight) + weight * warm).astype(np.uint8)))


def embedded(picture: Image.Image) -> str:
    """A picture as the address of an image that a page holds."""
    text = io.BytesIO()
    picture.save(text, "JPEG", quality=85)
    return "data:image/jpeg;base64," + base64.b64encode(text.getvalue()).decode()


def _gray(image: Image.Image) -> NDArray[np.float64]:
    values = np.asarray(image.convert("L"), dtype=np.float64)
    return np.repeat(values[..., None], 3, axis=2)


def _blend(
    pixels: NDArray[np.float64], mask: Mask, color: tuple[int, int, int]
) -> NDArray[np.float64]:
    result = pixels.copy()
    result[mask] = 0.35 * pixels[mask] + 0.65 * np.array(color)
    return result


def _size(image: Image.Image) -> tuple[int, int]:
    factor = SIDE / max(image.size)
    return max(1, round(image.width * factor)), max(1, round(image.height * factor))


def _small(image: Image.Image) -> Image.Image:
    return image.convert("RGB").resize(_size(image), Image.Resampling.BICUBIC)
