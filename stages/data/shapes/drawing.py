"""Scenes as images: shaded, textured shapes on pale crops of scikit-image's photographs.

Only photographs that are part of scikit-image's own package are used: nothing is downloaded.
"""

from functools import cache
from math import ceil, cos, pi, sin

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from skimage import data as bundled

from stages.data.shapes.scene import Item
from stages.data.shapes.words import COLORS

PHOTOGRAPHS = (
    "astronaut",
    "brick",
    "camera",
    "cat",
    "coffee",
    "coins",
    "grass",
    "gravel",
    "hubble_deep_field",
    "moon",
    "rocket",
    "stereo_motorcycle",
)
OVERSAMPLING = 4  # of edges
RING_HOLE = 0.52  # of the radius
Pixels = NDArray[np.uint8]
Outline = NDArray[np.float64]


@cache
def _photographs() -> tuple[Image.Image, ...]:
    images = []
    for name in PHOTOGRAPHS:
        photograph = getattr(bundled, name)()
        if isinstance(photograph, tuple):  # the stereo pair: its left image
            photograph = photograph[0]
        images.append(Image.fromarray(photograph).convert("RGB"))
    return tuple(images)


def _star(points: int, inner: float) -> list[tuple[float, float]]:
    radii = (1.0, inner)
    return [
        (radii[i % 2] * sin(pi * i / points), -radii[i % 2] * cos(pi * i / points))
        for i in range(2 * points)
    ]


def _circle(radius: float) -> list[tuple[float, float]]:
    return [(radius * cos(pi * i / 16), radius * sin(pi * i / 16)) for i in range(32)]


def _cross(arm: float) -> list[tuple[float, float]]:
    corner = [(arm, -0.94), (arm, -arm), (0.94, -arm)]
    turned = []
    for turn in range(4):
        c, s = round(cos(turn * pi / 2)), round(sin(turn * pi / 2))
        turned += [(c * x - s * y, s * x + c * y) for x, y in corner]
    return turned


def _heart() -> list[tuple[float, float]]:
    curve = []
    for i in range(40):
        t = 2 * pi * i / 40
        y = 13 * cos(t) - 5 * cos(2 * t) - 2 * cos(3 * t) - cos(4 * t)
        curve.append((sin(t) ** 3 * 0.95, -(y + 2.5) / 16 * 0.95))
    return curve


# Outlines in a circle of radius 1, y downward.
OUTLINES: dict[str, list[tuple[float, float]]] = {
    "circle": _circle(0.92),
    "square": [(-0.72, -0.72), (0.72, -0.72), (0.72, 0.72), (-0.72, 0.72)],
    "triangle": [(0.0, -0.95), (0.9, 0.68), (-0.9, 0.68)],
    "diamond": [(0.0, -1.0), (0.66, 0.0), (0.0, 1.0), (-0.66, 0.0)],
    "star": _star(5, 0.45),
    "cross": _cross(0.34),
    "ring": _circle(0.95),
    "heart": _heart(),
}


def outline(item: Item, scale: float = 1.0) -> Outline:
    """Corners (N, 2) of the item, x and y in pixels."""
    c, s = cos(item.angle), sin(item.angle)
    turn = np.array([[c, s], [-s, c]])
    corners = np.array(OUTLINES[item.shape]) * item.radius * scale
    return corners @ turn + (item.x, item.y)


def _coverage(item: Item, left: int, top: int, side: int) -> NDArray[np.float32]:
    """The share of each pixel of the window that the item covers, 0..1 (side, side)."""
    window = Image.new("L", (side * OVERSAMPLING, side * OVERSAMPLING))
    pen = ImageDraw.Draw(window)
    holes = [(1.0, 255)] + ([(RING_HOLE, 0)] if item.shape == "ring" else [])
    for scale, value in holes:
        corners = (outline(item, scale) - (left, top)) * OVERSAMPLING - 0.5
        pen.polygon([(float(x), float(y)) for x, y in corners], fill=value)
    return np.asarray(window.reduce(OVERSAMPLING), dtype=np.float32) / np.float32(255)


def _window(item: Item, side: int) -> tuple[int, int, int]:
    """Left, top and side of a square window within the image that holds the item."""
    size = min(2 * ceil(item.radius) + 4, side)
    left = min(max(int(item.x) - size // 2, 0), side - size)
    top = min(max(int(item.y) - size // 2, 0), side - size)
    return left, top, size


def mask(item: Item, side: int) -> NDArray[np.bool_]:
    """The pixels (side, side) of which the item covers at least half."""
    left, top, size = _window(item, side)
    full = np.zeros((side, side), dtype=bool)
    full[top : top + size, left : left + size] = _coverage(item, left, top, size) >= 0.5
    return full


def draw_background(rng: np.random.Generator, side: int) -> NDArray[np.float32]:
    """A pale, flat crop of a photograph, (side, side, 3) in 0..255."""
    photographs = _photographs()
    photograph = photographs[int(rng.integers(len(photographs)))]
    crop = int(rng.integers(side, min(*photograph.size, 3 * side) + 1))
    left = int(rng.integers(photograph.width - crop + 1))
    top = int(rng.integers(photograph.height - crop + 1))
    box = (left, top, left + crop, top + crop)
    resized = photograph.resize((side, side), Image.Resampling.BILINEAR, box)
    pixels = np.asarray(resized, dtype=np.float32)
    gray = pixels.mean(axis=2, keepdims=True)
    color, contrast, level = (float(x) for x in rng.uniform((0.1, 0.35, 85), (0.4, 0.7, 165)))
    faded: NDArray[np.float32] = (gray + color * (pixels - gray)).astype(np.float32)
    return np.asarray((faded - faded.mean()) * contrast + level, dtype=np.float32)


def _texture(
    rng: np.random.Generator, item: Item, x: NDArray[np.float32], y: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Brightness factor of each pixel; x and y are distances from the item's center."""
    period = float(rng.uniform(4.6, 6.0)) if item.size == "small" else float(rng.uniform(5.5, 7.5))
    angle = float(rng.uniform(0, pi))
    u = (x * cos(angle) + y * sin(angle)) / period
    v = (y * cos(angle) - x * sin(angle)) / period
    if item.texture == "striped":
        return np.where(u % 1 < 0.5, np.float32(1.05), np.float32(0.5))
    if item.texture == "dotted":
        from_dot = np.hypot(u % 1 - 0.5, v % 1 - 0.5)
        return np.where(from_dot < 0.3, np.float32(0.4), np.float32(1.05))
    return np.ones_like(u)


def draw_item(rng: np.random.Generator, item: Item, canvas: NDArray[np.float32]) -> None:
    """Paint the item onto the canvas (side, side, 3)."""
    left, top, size = _window(item, len(canvas))
    covered = _coverage(item, left, top, size)[:, :, None]
    pixels = np.arange(size, dtype=np.float32) + 0.5
    x, y = (pixels + left - item.x)[None, :], (pixels + top - item.y)[:, None]
    toward = float(rng.uniform(0, 2 * pi))
    shade = 1 + 0.13 * (x * cos(toward) + y * sin(toward)) / item.radius
    bright = (shade * _texture(rng, item, x, y)).astype(np.float32)
    color = np.array(COLORS[item.color], dtype=np.float32) + rng.uniform(-12, 12, 3).astype("f4")
    window = canvas[top : top + size, left : left + size]
    window += covered * (color * bright[:, :, None] - window)


def draw_image(rng: np.random.Generator, items: tuple[Item, ...], side: int) -> Pixels:
    """The image (side, side, 3) of the items."""
    canvas = draw_background(rng, side)
    for item in items:
        draw_item(rng, item, canvas)
    canvas += rng.standard_normal(canvas.shape, dtype=np.float32) * float(rng.uniform(2, 7))
    return canvas.clip(0, 255).round().astype(np.uint8)
