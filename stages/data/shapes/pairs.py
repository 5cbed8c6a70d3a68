"""Image-text pairs of generated scenes and of parts of them, for the small CLIP.

crop     a piece of a scene around one item, with some of its attributes
scene    a whole scene, with an expression of one item or a caption of up to three
masked   a scene seen through a soft mask around one item, with an expression of it or a caption

A caption of one item may name the part of the image that it is in.

The masks imitate response maps: a soft disc around a jittered center, with a random floor and
scale, sometimes with a weaker disc at another item. They are made from the known centers of the
items: the judge is pre-trained with a kind of point supervision.
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from stages.data.shapes.drawing import Pixels, draw_image
from stages.data.shapes.expressions import (
    SUBSETS,
    VALUES,
    Attributes,
    Expression,
    Speaker,
    are_alike,
    describe,
    pick,
    reach,
)
from stages.data.shapes.scene import Item, choose, draw_items
from stages.data.shapes.words import ANY_SHAPE, ATTRIBUTES, OPPOSITES, PLACES

CROP = 56  # pixels of a scene of 96
UNNAMED, NOTHING = -1, -2  # instead of the number of an attribute's value
MOST_KEPT = 3  # items that a caption names
OUTER = 0.15  # of the image's side: items this far from the center can be described by place
NUM_ATTRIBUTES = len(ATTRIBUTES)
DIRECTIONS = tuple(PLACES)
MAX_SCALE = 10.0  # of a response map: its values are not bounded by 1


@dataclass(frozen=True)
class Scene:
    items: tuple[Item, ...]
    image: Pixels
    expressions: tuple[tuple[Expression, ...], ...]  # of each item


@dataclass(frozen=True)
class Pair:
    """One image-text pair, with the data that tell whether its text fits another image."""

    scene: int
    pixels: Pixels
    mask: NDArray[np.float32] | None  # (S, S)
    text: str
    named: tuple[int, ...]  # numbers of the values and direction that the text names
    visible: list[tuple[int, ...]]  # values of the items in view, and in which directions they lie
    opposite: str | None = None  # the text with its directions turned around, which is wrong
    is_unique: bool = True  # whether the text fits no other item of its scene
    item: int | None = None  # which of the scene's items is shown; None: all


def draw_scene(key: tuple[int, ...], size: int) -> Scene:
    """The scene of a random stream, with expressions of each of its items."""
    rng = np.random.default_rng(key)
    items: tuple[Item, ...] = ()
    while len(items) < 2:
        items = draw_items(rng, size, 2, 5)
    image = draw_image(rng, items, size)
    speaker = Speaker(items, size)
    expressions = [tuple(speaker.refer(rng, target, 5)) for target in range(len(items))]
    return Scene(items, image, tuple(expressions))


def _named(item: Item, attributes: Attributes, direction: str = "") -> tuple[int, ...]:
    numbers = [
        VALUES[name].index(getattr(item, name)) if name in attributes else UNNAMED
        for name in ATTRIBUTES
    ]
    return (*numbers, DIRECTIONS.index(direction) if direction else UNNAMED)


def _visible(item: Item, side: int) -> tuple[int, ...]:
    lies = [int(_depth(item, direction, side) > 0) for direction in DIRECTIONS]
    return (*_named(item, ATTRIBUTES)[:NUM_ATTRIBUTES], *lies)


def _depth(item: Item, direction: str, side: int) -> float:
    """How far the item lies from the center toward that edge of the image, -0.5 to 0.5."""
    from_center = replace(item, x=item.x - side / 2, y=item.y - side / 2)
    return reach(from_center, direction) / side


def crop(rng: np.random.Generator, number: int, scene: Scene) -> Pair:
    """A piece of a scene around one of its items."""
    item = pick(rng, scene.items)
    target = scene.items.index(item)
    side = len(scene.image)
    shift = rng.uniform(-0.12, 0.12, 2) * CROP
    left, top = (
        int(np.clip(center + move - CROP / 2, 0, side - CROP))
        for center, move in zip((item.x, item.y), shift, strict=True)
    )
    pixels = scene.image[top : top + CROP, left : left + CROP]
    pair = Pair(number, pixels, None, "", (), [_visible(item, side)], item=target)
    return tell_attributes(rng, scene, pair)


def tell_attributes(rng: np.random.Generator, scene: Scene, pair: Pair) -> Pair:
    """The pair of one item with a text of some of its attributes."""
    assert pair.item is not None
    item, named = scene.items[pair.item], pick(rng, SUBSETS)
    return replace(pair, text=describe(item, named, rng), named=_named(item, named))


def whole(rng: np.random.Generator, number: int, scene: Scene) -> Pair:
    """A whole scene."""
    visible = [_visible(item, len(scene.image)) for item in scene.items]
    return tell_scene(rng, scene, Pair(number, scene.image, None, "", (), visible))


def tell_scene(rng: np.random.Generator, scene: Scene, pair: Pair) -> Pair:
    """The pair of a whole scene with an expression of an item, or a caption."""
    target = int(rng.integers(len(scene.items)))
    if scene.expressions[target] and rng.random() < 0.5:
        text, named = _expression(rng, scene, target)
    else:
        order = rng.permutation(len(scene.items))[: int(rng.integers(1, MOST_KEPT + 1))]
        text, named = _caption(rng, [scene.items[n] for n in order], len(scene.image))
    return replace(pair, text=text, named=named)


def masked(
    rng: np.random.Generator,
    number: int,
    scene: Scene,
    target: int,
    expression: Expression | None,
) -> Pair:
    """An item alone, with an expression of it, or a caption where that is None."""
    visible = [_visible(scene.items[target], len(scene.image))]
    pair = Pair(number, scene.image, None, "", (), visible, item=target)
    pair = tell_item(rng, scene, pair, expression)
    return replace(pair, mask=draw_mask(rng, scene, target))


def tell_item(
    rng: np.random.Generator, scene: Scene, pair: Pair, expression: Expression | None
) -> Pair:
    """The pair of an item with an expression of it, or a caption where that is None."""
    assert pair.item is not None
    if expression is not None:
        text, named = _told(scene, pair.item, expression)
    else:
        text, named = _caption(rng, [scene.items[pair.item]], len(scene.image))
    return replace(pair, text=text, named=named)


def any_expression(rng: np.random.Generator, scene: Scene, target: int) -> Expression | None:
    """One of the item's expressions, six times of ten."""
    if not scene.expressions[target] or rng.random() >= 0.6:
        return None
    return pick(rng, scene.expressions[target])


def placed_pairs(rng: np.random.Generator, number: int, scene: Scene) -> list[Pair]:
    """Two items of a scene, told by nothing but their places if they have one."""
    kept = [int(target) for target in rng.permutation(len(scene.items))[:2]]
    return [_placed(rng, number, scene, target, None, place_alone=1) for target in kept]


def alike_pairs(rng: np.random.Generator, number: int, scene: Scene) -> list[Pair]:
    """Two items of a scene, mostly alike in what the expression of the first names."""
    target = int(rng.integers(len(scene.items)))
    expression = expression_of_any_kind(rng, scene, target)
    first = _placed(rng, number, scene, target, expression)
    others = [other for other in range(len(scene.items)) if other != target]
    if expression is not None and rng.random() < 0.7:
        items, named = scene.items, expression.attributes
        alike = [other for other in others if are_alike(items[target], items[other], named)]
        others = alike or others
    other = pick(rng, others)
    again = expression_of_any_kind(rng, scene, other)
    return [first, _placed(rng, number, scene, other, again)]


def expression_of_any_kind(
    rng: np.random.Generator, scene: Scene, target: int
) -> Expression | None:
    """One of the item's expressions, seven times of ten; each kind that it has is as likely."""
    expressions = scene.expressions[target]
    if not expressions or rng.random() >= 0.7:
        return None
    kind = pick(rng, sorted({expression.kind for expression in expressions}))
    return pick(rng, [expression for expression in expressions if expression.kind == kind])


def _placed(
    rng: np.random.Generator,
    number: int,
    scene: Scene,
    target: int,
    expression: Expression | None,
    place_alone: float = 0.5,
) -> Pair:
    pair = masked(rng, number, scene, target, expression)
    return tell_place(rng, scene, pair, expression, place_alone)


def tell_place(
    rng: np.random.Generator,
    scene: Scene,
    pair: Pair,
    expression: Expression | None,
    place_alone: float = 0.5,
) -> Pair:
    """The pair of an item, whose text is also given with its directions turned around.

    Without an expression, nothing but its place is told so often, if it has one.
    """
    assert pair.item is not None
    item, side = scene.items[pair.item], len(scene.image)
    places = [direction for direction in DIRECTIONS if _depth(item, direction, side) > OUTER]
    if expression is None and places and rng.random() < place_alone:
        direction = pick(rng, places)
        text = choose(rng, PLACES[direction]).format(choose(rng, ANY_SHAPE))
        pair = replace(pair, text=text, named=_named(item, (), direction))
    opposite = turn_around(pair.text)
    return replace(
        pair,
        opposite=opposite if opposite != pair.text else None,
        is_unique=expression is not None,
    )


def turn_around(text: str) -> str:
    """The text with each direction replaced by the opposite one."""
    return " ".join(OPPOSITES.get(word, word) for word in text.split())


def _expression(rng: np.random.Generator, scene: Scene, target: int) -> tuple[str, tuple[int, ...]]:
    return _told(scene, target, pick(rng, scene.expressions[target]))


def _told(scene: Scene, target: int, expression: Expression) -> tuple[str, tuple[int, ...]]:
    direction = expression.direction if expression.kind == "place" else ""
    return expression.text, _named(scene.items[target], expression.attributes, direction)


def _caption(rng: np.random.Generator, items: list[Item], side: int) -> tuple[str, tuple[int, ...]]:
    """Some attributes of each item, joined by "and"; for a single item perhaps its place."""
    named = [pick(rng, SUBSETS) for _ in items]
    text = " and ".join(describe(item, s, rng) for item, s in zip(items, named, strict=True))
    if len(items) > 1:
        return text, (NOTHING,) * (NUM_ATTRIBUTES + 1)
    places = [d for d in DIRECTIONS if _depth(items[0], d, side) > OUTER]
    if not places or rng.random() >= 0.6:
        return text, _named(items[0], named[0])
    direction = pick(rng, places)
    return choose(rng, PLACES[direction]).format(text), _named(items[0], named[0], direction)


def draw_mask(rng: np.random.Generator, scene: Scene, target: int) -> NDArray[np.float32]:
    """A soft mask (S, S) that keeps mainly one item."""
    side = len(scene.image)
    mask = _disc(rng, scene.items[target], side)
    if rng.random() < 0.35:
        other = int(rng.integers(len(scene.items)))
        mask = np.maximum(mask, float(rng.uniform(0.1, 0.6)) * _disc(rng, scene.items[other], side))
    floor = float(rng.uniform(0, 0.35)) if rng.random() < 0.5 else 0.0
    scale = MAX_SCALE ** float(rng.uniform(-0.3, 1)) if rng.random() < 0.5 else 1.0
    return np.asarray((floor + (1 - floor) * mask) * scale, dtype=np.float32)


def _disc(rng: np.random.Generator, item: Item, side: int) -> NDArray[np.float32]:
    """1 around the item's center, falling to 0 outside, with random extent and softness."""
    x, y = (float(c) + float(rng.normal(0, 0.25)) * item.radius for c in (item.x, item.y))
    radius = item.radius * float(rng.uniform(0.7, 1.7))
    softness = float(rng.uniform(1, 6))
    pixels = np.arange(side, dtype=np.float32) + 0.5
    distance = np.hypot((pixels - x)[None, :], (pixels - y)[:, None])
    return np.clip((radius - distance) / softness + 0.5, 0, 1)
