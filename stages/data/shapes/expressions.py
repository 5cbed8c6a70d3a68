"""Expressions of three kinds for the items of a scene, true of exactly the items they refer to.

attribute  "small dotted green ring": a combination of attributes that only one item has
place      "square on the left": the outermost of the items that have the attributes
relation   "cyan square to the right of the pink square": beside another item, itself unique

For generalized scenes: groups of several items ("all red circles", "the star and the blue ring")
and descriptions that fit nothing in the scene.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import combinations
from typing import TypeVar

import numpy as np

from stages.data.shapes import words
from stages.data.shapes.scene import Item, choose

Value = TypeVar("Value")
Attributes = tuple[str, ...]  # names of attributes, of words.ATTRIBUTES
AXES = {"left": (-1, 0), "right": (1, 0), "top": (0, -1), "bottom": (0, 1)}
MARGIN = 0.07  # of the image's side, by which a place or a relation must be clear
MAINLY = 0.75  # of the distance between two items must be along the direction of a relation
SUBSETS: tuple[Attributes, ...] = tuple(
    subset
    for count in range(1, len(words.ATTRIBUTES) + 1)
    for subset in combinations(words.ATTRIBUTES, count)
)
SHORT = SUBSETS[:10]  # one or two attributes
VALUES: dict[str, tuple[str, ...]] = {
    "size": words.SIZES,
    "texture": words.TEXTURES,
    "color": tuple(words.COLORS),
    "shape": words.SHAPES,
}
NO_CONTENT = frozenset(("the", "a", "of", "to", "on", "at", *words.ANY_SHAPE))


@dataclass(frozen=True)
class Expression:
    text: str
    kind: str
    items: tuple[int, ...]  # item numbers; none for an expression without a target
    attributes: Attributes = ()  # that the expression names, of its single target
    direction: str = ""  # of a place or a relation


@dataclass(frozen=True)
class Choice:
    """What tells a target apart, by the kind of expression."""

    attributes: Attributes  # that it has
    directions: tuple[str, ...] = ()  # in which it lies of `others`, or is the outermost
    others: tuple[int, ...] = ()  # other items that are described
    absent: str = ""  # the value of all other items that have the attributes


class Speaker:
    """Makes expressions for the items of one scene in an image of `side` pixels."""

    kinds: tuple[str, ...] = ("attribute", "place", "relation")
    kind_limits: tuple[float, ...] = (0.55, 0.83)  # chances .55, .28 and .17

    def __init__(self, items: tuple[Item, ...], side: int) -> None:
        self.items, self.margin = items, MARGIN * side
        self.matching = cache(self._matching)
        self.choices = cache(self._choices)

    def refer(self, rng: np.random.Generator, target: int, count: int) -> list[Expression]:
        """Up to `count` expressions of one item, no two with the same words."""
        expressions: dict[frozenset[str], Expression] = {}
        for _ in range(6 * count):
            kind = self.kinds[int(np.searchsorted(self.kind_limits, rng.random(), side="right"))]
            choices = self.choices(kind, target)
            if not choices:
                continue
            expression = self._say(rng, kind, target, pick(rng, choices))
            expressions.setdefault(frozenset(expression.text.split()) - NO_CONTENT, expression)
            if len(expressions) == count:
                break
        return list(expressions.values())

    def refer_to_groups(self, rng: np.random.Generator, count: int) -> list[Expression]:
        """Expressions of two or more items: shared attributes, or two descriptions and "and"."""
        expressions = list(dict.fromkeys(self._groups(rng)))
        return [expressions[number] for number in rng.permutation(len(expressions))[:count]]

    def refer_to_nothing(self, rng: np.random.Generator, count: int) -> list[Expression]:
        """Descriptions that fit no item, with one attribute of an item changed."""
        expressions: dict[str, Expression] = {}
        for _ in range(30 * count):
            item = pick(rng, self.items)
            attributes = pick(rng, SUBSETS[4:])  # two attributes or more
            changed = choose(rng, attributes)
            absent = Item(**{**vars(item), changed: choose(rng, VALUES[changed])})
            if not any(are_alike(absent, other, attributes) for other in self.items):
                text = describe(absent, attributes, rng)
                expressions[text] = Expression(text, "nothing", ())
            if len(expressions) == count:
                break
        return list(expressions.values())

    def _say(self, rng: np.random.Generator, kind: str, target: int, choice: Choice) -> Expression:
        text = self._phrase(rng, kind, describe(self.items[target], choice.attributes, rng), choice)
        text = f"the {text}" if rng.random() < 0.25 else text
        direction = choice.directions[0] if choice.directions else ""
        return Expression(text, kind, (target,), choice.attributes, direction)

    def _phrase(self, rng: np.random.Generator, kind: str, text: str, choice: Choice) -> str:
        """The description `text` with what else tells the target apart."""
        if kind == "place":
            text = choose(rng, words.PLACES[choice.directions[0]]).format(text)
        elif kind == "relation":
            reference = self._reference(rng, choice.others[0])
            phrase = choose(rng, words.RELATIONS[choice.directions[0]])
            text = phrase.format(text, describe(self.items[choice.others[0]], reference, rng))
        return text

    def _reference(self, rng: np.random.Generator, other: int) -> Attributes:
        """Attributes that only this item has: one or two, if that is possible."""
        unique = self.choices("attribute", other)
        return pick(rng, [c for c in unique if c.attributes in SHORT] or unique).attributes

    def _matching(self, like: int, attributes: Attributes) -> tuple[int, ...]:
        """Numbers of the items that share these attributes with item `like`."""
        item = self.items[like]
        return tuple(n for n, other in enumerate(self.items) if are_alike(item, other, attributes))

    def _choices(self, kind: str, target: int) -> list[Choice]:
        """The expressions that only fit the target."""
        if kind == "attribute":
            unique = [
                attributes
                for attributes in SUBSETS
                if self.matching(target, attributes) == (target,)
            ]
            return [Choice(attributes) for attributes in unique]
        if kind == "place":
            return [
                Choice(attributes, (direction,))
                for attributes in ((), *SUBSETS)
                for direction in AXES
                if self._is_outermost(target, self.matching(target, attributes), direction)
            ]
        return [
            Choice(attributes, (direction,), (other,))
            for other in range(len(self.items))
            for direction in AXES
            if other != target
            and self._is_beside(target, other, direction)
            and self.choices("attribute", other)
            for attributes in SHORT
            if self._is_alone_beside(target, other, direction, attributes)
        ]

    def _is_outermost(self, target: int, among: tuple[int, ...], direction: str) -> bool:
        """Whether the target lies clearly farther in the direction than each of the others."""
        own = reach(self.items[target], direction)
        others = [reach(self.items[number], direction) for number in among if number != target]
        return bool(others) and own - max(others) >= self.margin

    def _is_beside(self, target: int, other: int, direction: str, mainly: float = MAINLY) -> bool:
        """Whether the target lies in that direction of the other, clearly and mainly."""
        first, second = self.items[target], self.items[other]
        along = reach(first, direction) - reach(second, direction)
        return along >= max(self.margin, mainly * np.hypot(first.x - second.x, first.y - second.y))

    def _is_alone_beside(
        self, target: int, other: int, direction: str, attributes: Attributes
    ) -> bool:
        """Whether no third item with these attributes lies in that direction of the other."""
        rivals = self._rivals(target, attributes)
        return not any(self._is_beyond_each(n, (other,), (direction,)) for n in rivals)

    def _rivals(self, target: int, attributes: Attributes) -> list[int]:
        """The other items that have these attributes of the target."""
        return [n for n in self.matching(target, attributes) if n != target]

    def _is_beyond_each(
        self, item: int, others: tuple[int, ...], directions: tuple[str, ...]
    ) -> bool:
        """Whether an item lies in these directions of others, even by little."""
        return item not in others and all(
            reach(self.items[item], direction) > reach(self.items[other], direction)
            for other, direction in zip(others, directions, strict=True)
        )

    def _groups(self, rng: np.random.Generator) -> Iterator[Expression]:
        for number, item in enumerate(self.items):
            for attributes in SHORT:
                items = self.matching(number, attributes)
                if len(items) < 2:
                    continue
                text = choose(rng, group_phrases(items)).format(
                    describe(item, attributes, rng, plural=True)
                )
                yield Expression(text, "group", items)
        for pair in combinations(range(len(self.items)), 2):
            unique = [self.choices("attribute", number) for number in pair]
            if all(unique):
                first, second = (
                    describe(self.items[number], pick(rng, choices).attributes, rng)
                    for number, choices in zip(pair, unique, strict=True)
                )
                yield Expression(f"the {first} and the {second}", "group", pair)


def group_phrases(items: tuple[int, ...]) -> tuple[str, ...]:
    """Phrases for all of these items; {} is their description in the plural."""
    return (*words.GROUPS, "both {}") if len(items) == 2 else words.GROUPS


def describe(
    item: Item, attributes: Attributes, rng: np.random.Generator, plural: bool = False
) -> str:
    """The attributes in words: "large red circle", "dotted things"."""
    parts = [getattr(item, name) for name in attributes if name != "shape"]
    if "shape" in attributes:
        noun = words.PLURALS[item.shape] if plural else item.shape
    else:
        noun = choose(rng, words.ANY_SHAPE) + ("s" if plural else "")
    return " ".join([*parts, noun])


def pick(rng: np.random.Generator, values: Sequence[Value]) -> Value:
    return values[int(rng.integers(len(values)))]


def are_alike(first: Item, second: Item, attributes: Attributes) -> bool:
    return all(getattr(first, name) == getattr(second, name) for name in attributes)


def reach(item: Item, direction: str) -> float:
    """How far the item lies in a direction."""
    x, y = AXES[direction]
    return x * item.x + y * item.y
