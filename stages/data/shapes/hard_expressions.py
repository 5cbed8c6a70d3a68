"""Expressions of the hard variant: kinds that take more than one step, and groups as objects.

two_relations  "square left of the ring and above the star": neither relation needs to be enough
between        "square between the ring and the star"
negation       "star that is not red": all other stars are red
plural         "both red circles": items of the same attributes, as one object
"""

from functools import cached_property
from itertools import combinations

import numpy as np

from stages.data.shapes import words
from stages.data.shapes.expressions import (
    AXES,
    SHORT,
    SUBSETS,
    Attributes,
    Choice,
    Expression,
    Speaker,
    describe,
    group_phrases,
)
from stages.data.shapes.scene import choose

MAINLY = 0.5  # of a distance must be along each of two directions
MIDDLE = 0.25  # of the way between two items, on each side of its middle
MOST_IN_GROUP = 4


class HardSpeaker(Speaker):
    """Makes expressions of all kinds, most of which need more than the target to be understood."""

    kinds = (*Speaker.kinds, "two_relations", "between", "negation")
    kind_limits = (0.25, 0.45, 0.6, 0.75, 0.85)

    @cached_property
    def groups(self) -> dict[tuple[int, ...], list[Attributes]]:
        """The groups of two to four items, each with the attributes that only they have."""
        found: dict[tuple[int, ...], list[Attributes]] = {}
        for number in range(len(self.items)):
            for attributes in SUBSETS:
                items = self.matching(number, attributes)
                if 2 <= len(items) <= MOST_IN_GROUP and items[0] == number:
                    found.setdefault(items, []).append(attributes)
        return found

    def refer_to_group(
        self, rng: np.random.Generator, items: tuple[int, ...], count: int
    ) -> list[Expression]:
        """Up to `count` different expressions of a group."""
        texts = [
            phrase.format(describe(self.items[items[0]], attributes, rng, plural=True))
            for attributes in self.groups[items]
            for phrase in group_phrases(items)
        ]
        chosen = rng.permutation(len(texts))[:count]
        return [Expression(texts[number], "plural", items) for number in chosen]

    def _phrase(self, rng: np.random.Generator, kind: str, text: str, choice: Choice) -> str:
        if kind in Speaker.kinds:
            return super()._phrase(rng, kind, text, choice)
        if kind == "negation":
            absent = f"a {choice.absent}" if choice.absent in words.SHAPES else choice.absent
            return choose(rng, words.NEGATIONS).format(text, absent)
        others = [
            describe(self.items[other], self._reference(rng, other), rng) for other in choice.others
        ]
        if kind == "between":
            return words.BETWEEN.format(text, *others)
        first, second = (words.RELATIONS[way][-1] for way in choice.directions)  # the short phrases
        return f"{first.format(text, others[0])} and {second.format('', others[1]).strip()}"

    def _choices(self, kind: str, target: int) -> list[Choice]:
        if kind in Speaker.kinds:
            return super()._choices(kind, target)
        if kind == "negation":
            return self._negations(target)
        others = [n for n in range(len(self.items)) if n != target and self._can_be_named(n)]
        pairs = list(combinations(others, 2))
        if kind == "between":
            return [
                Choice(attributes, others=pair)
                for pair in pairs
                if self._is_between(target, pair)
                for attributes in SHORT
                if not any(self._may_be_between(n, pair) for n in self._rivals(target, attributes))
            ]
        return [
            Choice(attributes, ways, pair)
            for pair in pairs
            for ways in ((first, second) for first in AXES for second in AXES if first != second)
            if all(
                self._is_beside(target, n, way, MAINLY) for n, way in zip(pair, ways, strict=True)
            )
            for attributes in SHORT
            if not any(
                self._is_beyond_each(n, pair, ways) for n in self._rivals(target, attributes)
            )
        ]

    def _negations(self, target: int) -> list[Choice]:
        """Attributes of the target, and a value of all others that have these attributes."""
        own, found = self.items[target], []
        for attributes in ((), *SHORT):
            rivals = [self.items[n] for n in self._rivals(target, attributes)]
            for name in words.ATTRIBUTES:
                values = {getattr(rival, name) for rival in rivals}
                if len(values) == 1 and getattr(own, name) not in values:
                    found.append(Choice(attributes, absent=values.pop()))
        return found

    def _can_be_named(self, other: int) -> bool:
        return any(choice.attributes in SHORT for choice in self.choices("attribute", other))

    def _is_between(self, item: int, pair: tuple[int, ...]) -> bool:
        """Whether an item is between two others, near the middle of the line."""
        along, apart = self._from_line(item, pair)
        return abs(along - 0.5) <= MIDDLE and apart <= self.items[item].radius

    def _may_be_between(self, item: int, pair: tuple[int, ...]) -> bool:
        """Whether somebody could say so."""
        along, apart = self._from_line(item, pair)
        return item not in pair and 0 < along < 1 and apart <= 2 * self.items[item].radius

    def _from_line(self, item: int, pair: tuple[int, ...]) -> tuple[float, float]:
        """How far along the way from one item to another, and how many pixels from that line."""
        start, end, own = (np.array([self.items[n].x, self.items[n].y]) for n in (*pair, item))
        way = end - start
        along = float((own - start) @ way / (way @ way))
        return along, float(np.linalg.norm(own - start - along * way))
