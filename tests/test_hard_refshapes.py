"""The hard variant of the generated data set: its expressions are read again, by other rules."""

import json
from pathlib import Path

import numpy as np
import pytest

from stages import make_refshapes
from stages.config.datasets import RefShapes
from stages.data.refer import read_refs
from stages.data.segmentation import segmentation_mask
from stages.data.shapes import drawing, words
from stages.data.shapes.hard_expressions import HardSpeaker
from stages.data.shapes.scene import Item, draw_items
from stages.data.text import split_words
from tests.test_refshapes import RELATIONS, Scenes, expressions_of, meeting, reach, understand

SIDE = 160
HARD = RefShapes(hard=True, size=SIDE, train_images=12, val_images=4, test_images=2)
LONGEST = 18  # words that the small CLIP reads


@pytest.fixture(scope="module")
def scenes() -> Scenes:
    generators = [np.random.default_rng([8, number]) for number in range(80)]
    return [(rng, draw_items(rng, SIDE, 4, 8, make_refshapes.HARD_SCALE)) for rng in generators]


def beyond(text: str, items: tuple[Item, ...]) -> set[int]:
    """The items that lie as a text says that begins with a relation, "left of the ring"."""
    for direction, phrases in RELATIONS.items():
        for phrase in phrases:
            if f" {text}".startswith(phrase):
                (other,) = meeting(f" {text}".removeprefix(phrase), items)
                limit = reach(items[other], direction)
                numbers = set(range(len(items))) - {other}
                return {n for n in numbers if reach(items[n], direction) > limit}
    raise AssertionError(text)


def between(first: Item, second: Item, item: Item) -> bool:
    """Whether an item cuts the line between two others."""
    ways = np.linspace(0, 1, 200)[:, None]
    line = np.array([first.x, first.y]) * (1 - ways) + np.array([second.x, second.y]) * ways
    return bool((np.hypot(*(line - (item.x, item.y)).T) <= item.radius).any())


def understand_hard(text: str, items: tuple[Item, ...]) -> set[int]:
    if " between the " in text:
        described, pair = text.split(" between the ")
        (first,), (second,) = (meeting(part, items) for part in pair.split(" and the "))
        others = meeting(described, items) - {first, second}
        return {n for n in others if between(items[first], items[second], items[n])}
    for phrase in (" that is not a ", " that is not ", " not a ", " not "):
        if phrase in text:
            described, absent = text.split(phrase)
            return meeting(described, items) - meeting(absent, items)
    if " and " in text:
        first, second = text.split(" and ")
        for phrase in (phrase for phrases in RELATIONS.values() for phrase in phrases):
            if phrase in first:
                described, other = first.split(phrase)
                found = beyond(phrase.strip() + f" {other}", items) & beyond(second, items)
                return meeting(described, items) & found
    return understand(text, items)


def test_an_expression_is_true_of_its_item_only(scenes: Scenes) -> None:
    kinds = set()
    for items, target, expression in expressions_of(scenes, HardSpeaker, SIDE):
        assert understand_hard(expression.text, items) == {target}, expression
        assert len(split_words(expression.text)) <= LONGEST
        kinds.add(expression.kind)
    assert kinds == set(HardSpeaker.kinds)


def test_a_group_is_all_items_that_its_expressions_fit(scenes: Scenes) -> None:
    seen = 0
    for rng, items in scenes:
        speaker = HardSpeaker(items, SIDE)
        for group in speaker.groups:
            expressions = speaker.refer_to_group(rng, group, 3)
            assert len({expression.text for expression in expressions}) == 3
            for expression in expressions:
                assert meeting(expression.text, items) == set(group), expression
                assert expression.items == group
            seen += 1
    assert seen > 50


def test_the_small_clip_does_not_know_four_of_its_words(scenes: Scenes) -> None:
    known, used = set(words.vocabulary()), set()
    for _, _, expression in expressions_of(scenes, HardSpeaker, SIDE):
        used.update(expression.text.split())
    assert used - known == {"between", "is", "not", "that"}


def test_groups_are_objects_with_the_masks_of_their_items(tmp_path: Path) -> None:
    make_refshapes.run(tmp_path, HARD)
    drawn = make_refshapes.draw_split(HARD, "train", HARD.train_images)
    items_of = {number: items for number, (_, items, _) in enumerate(drawn, start=1)}
    instances = json.loads((tmp_path / "instances.json").read_text())
    annotations = {row["id"]: row for row in instances["annotations"]}
    assert {image["width"] for image in instances["images"]} == {SIDE}
    groups = 0
    for ref in read_refs(tmp_path / "refs(unc).p"):
        assert len(ref["sentences"]) >= 3
        if ref["split"] != "train" or ref["sentences"][0]["kind"] != "plural":
            continue
        items = items_of[ref["image_id"]]
        members = meeting(ref["sentences"][0]["sent"], items)
        own = np.any([drawing.mask(items[n], SIDE) for n in members], axis=0)
        annotation = annotations[ref["ann_id"]]
        annotated = segmentation_mask(annotation["segmentation"], SIDE, SIDE)
        assert annotation["area"] == own.sum()
        assert (own & annotated).sum() / (own | annotated).sum() > 0.85
        groups += 1
    assert groups >= HARD.train_images / 2


def test_items_keep_their_size_in_pixels(scenes: Scenes) -> None:
    radii = [item.radius for _, items in scenes for item in items]
    assert min(radii) >= 0.099 * 96 and max(radii) <= 0.208 * 96
