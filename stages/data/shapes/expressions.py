"""Expressions of three kinds for the items of a scene, each true of exactly what it refers to.

attribute  "small dotted green ring": attributes that only one item has together
place      "square on the left": the outermost of the items that have the attributes
relation   "cyan square to the right of the pink square": beside another item, itself unique

For generalized scenes: groups of several items ("all red circles", "the star and the blue ring")
and descriptions that nothing in the scene meets.
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
Attributes = tuple[str, ...]  # the ones that are said, of words.ATTRIBUTES
AXES = {"left": (-1, 0), "right": (1, 0), "top": (0, -1), "bottom": (0, 1)}
MARGIN = 0.07  # of the picture's side, by which a place or a relation must be clear
MAINLY = 0.75  # of the distance between two items must be along the direction of a relation
KINDS = ("attribute", "place", "relation")
KIND_LIMITS = (0.55, 0.83)  # chances .55, .28 and .17
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
    targets: tuple[int, ...]  # item numbers; none for an expression that nothing meets
    said: Attributes = ()  # of the single target
    direction: str = ""  # of a place or a relation


class Speaker:
    """Says what can be said of the items of one scene in a picture of `side` pixels."""

    def __init__(self, items: tuple[Item, ...], side: int) -> None:
        self.items, self.margin = items, MARGIN * side
        self.matching = cache(self._matching)
        self.choices = cache(self._choices)

    def refer(self, rng: np.random.Generator, target: int, count: int) -> list[Expression]:
        """Up to `count` expressions of one item, no two of the same words."""
        found: dict[frozenset[str], Expression] = {}
        for _ in range(6 * count):
            kind = KINDS[int(np.searchsorted(KIND_LIMITS, rng.random(), side="right"))]
            choices = self.choices(kind, target)
            if not choices:
                continue
            expression = self._say(rng, kind, target, *pick(rng, choices))
            found.setdefault(frozenset(expression.text.split()) - NO_CONTENT, expression)
            if len(found) == count:
                break
        return list(found.values())

    def refer_to_groups(self, rng: np.random.Generator, count: int) -> list[Expression]:
        """Expressions of two or more items: a shared attribute, or two joined by "and"."""
        found = list(dict.fromkeys(self._groups(rng)))
        return [found[number] for number in rng.permutation(len(found))[:count]]

    def refer_to_nothing(self, rng: np.random.Generator, count: int) -> list[Expression]:
        """Descriptions that no item meets, one attribute away from an item that is there."""
        found: dict[str, Expression] = {}
        for _ in range(30 * count):
            item = pick(rng, self.items)
            said = pick(rng, SUBSETS[4:])  # two attributes or more
            changed = choose(rng, said)
            absent = Item(**{**vars(item), changed: choose(rng, VALUES[changed])})
            if not any(_same(absent, other, said) for other in self.items):
                text = describe(absent, said, rng)
                found[text] = Expression(text, "nothing", ())
            if len(found) == count:
                break
        return list(found.values())

    def _say(
        self,
        rng: np.random.Generator,
        kind: str,
        target: int,
        said: Attributes,
        direction: str,
        other: int,
    ) -> Expression:
        text = describe(self.items[target], said, rng)
        if kind == "place":
            text = choose(rng, words.PLACES[direction]).format(text)
        elif kind == "relation":
            unique = self.choices("attribute", other)
            reference = pick(rng, [c for c in unique if c[0] in SHORT] or unique)[0]
            phrase = choose(rng, words.RELATIONS[direction])
            text = phrase.format(text, describe(self.items[other], reference, rng))
        spoken = f"the {text}" if rng.random() < 0.25 else text
        return Expression(spoken, kind, (target,), said, direction)

    def _matching(self, like: int, said: Attributes) -> tuple[int, ...]:
        """Numbers of the items that share the said attributes with item `like`."""
        item = self.items[like]
        return tuple(n for n, other in enumerate(self.items) if _same(item, other, said))

    def _choices(self, kind: str, target: int) -> list[tuple[Attributes, str, int]]:
        """What is true of the target alone: attributes to say, direction, other item."""
        if kind == "attribute":
            unique = [said for said in SUBSETS if self.matching(target, said) == (target,)]
            return [(said, "", target) for said in unique]
        if kind == "place":
            return [
                (said, direction, target)
                for said in ((), *SUBSETS)
                for direction in AXES
                if self._is_outermost(target, self.matching(target, said), direction)
            ]
        return [
            (said, direction, other)
            for other in range(len(self.items))
            for direction in AXES
            if other != target
            and self._is_beside(target, other, direction)
            and self.choices("attribute", other)
            for said in SHORT
            if self._is_alone_beside(target, other, direction, said)
        ]

    def _is_outermost(self, target: int, among: tuple[int, ...], direction: str) -> bool:
        """Whether the target lies clearly farther in the direction than each of the others."""
        own = reach(self.items[target], direction)
        others = [reach(self.items[number], direction) for number in among if number != target]
        return bool(others) and own - max(others) >= self.margin

    def _is_beside(self, target: int, other: int, direction: str) -> bool:
        """Whether the target lies in that direction of the other, clearly and mainly."""
        one, two = self.items[target], self.items[other]
        along = reach(one, direction) - reach(two, direction)
        return along >= max(self.margin, MAINLY * np.hypot(one.x - two.x, one.y - two.y))

    def _is_alone_beside(self, target: int, other: int, direction: str, said: Attributes) -> bool:
        """Whether no further item of the said attributes lies in that direction of the other."""
        rivals = (n for n in self.matching(target, said) if n not in (target, other))
        limit = reach(self.items[other], direction)
        return all(reach(self.items[rival], direction) <= limit for rival in rivals)

    def _groups(self, rng: np.random.Generator) -> Iterator[Expression]:
        for number, item in enumerate(self.items):
            for said in SHORT:
                targets = self.matching(number, said)
                if len(targets) < 2:
                    continue
                phrases = (*words.GROUPS, "both {}") if len(targets) == 2 else words.GROUPS
                text = choose(rng, phrases).format(describe(item, said, rng, plural=True))
                yield Expression(text, "group", targets)
        for pair in combinations(range(len(self.items)), 2):
            unique = [self.choices("attribute", number) for number in pair]
            if all(unique):
                first, second = (
                    describe(self.items[number], pick(rng, choices)[0], rng)
                    for number, choices in zip(pair, unique, strict=True)
                )
                yield Expression(f"the {first} and the {second}", "group", pair)


def describe(item: Item, said: Attributes, rng: np.random.Generator, plural: bool = False) -> str:
    """The said attributes in words: "large red circle", "dotted things"."""
    parts = [getattr(item, name) for name in said if name != "shape"]
    if "shape" in said:
        noun = words.PLURALS[item.shape] if plural else item.shape
    else:
        noun = choose(rng, words.ANY_SHAPE) + ("s" if plural else "")
    return " ".join([*parts, noun])


def pick(rng: np.random.Generator, values: Sequence[Value]) -> Value:
    return values[int(rng.integers(len(values)))]


def _same(one: Item, two: Item, said: Attributes) -> bool:
    return all(getattr(one, name) == getattr(two, name) for name in said)


def reach(item: Item, direction: str) -> float:
    """How far the item lies in a direction."""
    x, y = AXES[direction]
    return x * item.x + y * item.y
