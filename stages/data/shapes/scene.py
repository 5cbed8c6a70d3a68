"""A scene: shapes of chosen attributes that do not overlap, many with a distractor of their shape.

Coordinates are pixels, the origin at the upper left corner of the upper left pixel, y downward.
"""

from dataclasses import dataclass, replace

import numpy as np

from stages.data.shapes.words import COLORS, SHAPES, SIZES, TEXTURES

# Radii as fractions of the image's side: 9.5 to 12 pixels and 16 to 20 pixels of 96.
RADII = {"small": (0.099, 0.125), "large": (0.167, 0.208)}
SHAPE_AGAIN = 0.55  # chance that a further object takes the shape of an earlier one
ATTRIBUTE_AGAIN = 0.35  # and then each other attribute of it
TURN = 0.21  # radians either way


@dataclass(frozen=True)
class Item:
    """One object of a scene. `radius` is that of the circle around it."""

    shape: str
    color: str
    texture: str
    size: str
    x: float
    y: float
    radius: float
    angle: float


def choose(rng: np.random.Generator, values: tuple[str, ...]) -> str:
    return values[int(rng.integers(len(values)))]


def draw_items(
    rng: np.random.Generator, side: int, least: int, most: int, scale: float = 1.0
) -> tuple[Item, ...]:
    """`least` to `most` items in a square image; fewer if there is no room left.

    `scale` is of their radii.
    """
    items: list[Item] = []
    for _ in range(int(rng.integers(least, most + 1))):
        item = _draw_attributes(rng, items)
        placed = _place(rng, item, items, side, scale)
        if placed is not None:
            items.append(placed)
    return tuple(items)


def _draw_attributes(rng: np.random.Generator, earlier: list[Item]) -> Item:
    item = Item(
        shape=choose(rng, SHAPES),
        color=choose(rng, tuple(COLORS)),
        texture=choose(rng, TEXTURES),
        size=choose(rng, SIZES),
        x=0.0,
        y=0.0,
        radius=0.0,
        angle=float(rng.uniform(-TURN, TURN)),
    )
    if earlier and rng.random() < SHAPE_AGAIN:
        other = earlier[int(rng.integers(len(earlier)))]
        again = {name: getattr(other, name) for name in ("color", "texture", "size")}
        again = {name: value for name, value in again.items() if rng.random() < ATTRIBUTE_AGAIN}
        item = replace(item, shape=other.shape, **again)
    return item


def _place(
    rng: np.random.Generator,
    item: Item,
    earlier: list[Item],
    side: int,
    scale: float,
    tries: int = 40,
) -> Item | None:
    """The item at a free place in the image; None if no try finds one."""
    radius = scale * side * float(rng.uniform(*RADII[item.size]))
    for _ in range(tries):
        x, y = (float(value) for value in rng.uniform(radius + 1, side - radius - 1, 2))
        if all(np.hypot(x - o.x, y - o.y) > radius + o.radius + 1 for o in earlier):
            return replace(item, x=x, y=y, radius=radius)
    return None
