"""The generated data set: same bytes from the same seed, expressions that are true and unique."""

import hashlib
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from stages import make_refshapes
from stages.config.datasets import RefShapes
from stages.data.refer import read_refs
from stages.data.segmentation import segmentation_mask
from stages.data.shapes import drawing, words
from stages.data.shapes.expressions import AXES, SUBSETS, Expression, Speaker
from stages.data.shapes.scene import Item, draw_items

SIDE = 96
SMALL = RefShapes(train_images=12, val_images=5, test_images=3)
Scenes = list[tuple[np.random.Generator, tuple[Item, ...]]]


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("refshapes")
    make_refshapes.run(folder, SMALL)
    return folder


@pytest.fixture(scope="module")
def scenes() -> Scenes:
    generators = [np.random.default_rng([7, number]) for number in range(150)]
    return [(rng, draw_items(rng, SIDE, 2, 5)) for rng in generators]


def expressions_of(
    scenes: Scenes, kind: type[Speaker], side: int
) -> Iterator[tuple[tuple[Item, ...], int, Expression]]:
    """Up to five expressions of each item, with the items of its scene and its number."""
    for rng, items in scenes:
        speaker = kind(items, side)
        for target in range(len(items)):
            for expression in speaker.refer(rng, target, 5):
                yield items, target, expression


def digest(folder: Path) -> dict[str, str]:
    files = (file for file in folder.rglob("*") if file.is_file())
    return {
        file.relative_to(folder).as_posix(): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in files
    }


def refs_by_split(folder: Path) -> dict[str, list[dict]]:
    actual: dict[str, list[dict]] = {}
    for ref in read_refs(folder / "refs(unc).p"):
        actual.setdefault(ref["split"], []).append(ref)
    return actual


def test_another_process_writes_the_same_bytes(small: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "stages.make_refshapes", "--output", str(tmp_path)]
    subprocess.run([*command, "--config", SMALL.model_dump_json()], check=True, capture_output=True)
    assert digest(tmp_path) == digest(small)


def test_another_seed_draws_other_images(small: Path, tmp_path: Path) -> None:
    make_refshapes.run(tmp_path, SMALL.model_copy(update={"seed": 1}))
    first, other = digest(small), digest(tmp_path)
    assert first.keys() == other.keys()
    assert not set(first.values()) & set(other.values())


def test_more_train_images_change_no_val_image(small: Path, tmp_path: Path) -> None:
    make_refshapes.run(tmp_path, SMALL.model_copy(update={"train_images": 14}))
    before = (small / "images" / "refshapes_000013.jpg").read_bytes()  # the first of val
    assert (tmp_path / "images" / "refshapes_000015.jpg").read_bytes() == before


def test_a_second_run_leaves_no_image_of_the_first(tmp_path: Path) -> None:
    make_refshapes.run(tmp_path, SMALL)
    make_refshapes.run(tmp_path, SMALL.model_copy(update={"train_images": 2}))
    listed = {image["file_name"] for image in read_instances(tmp_path)["images"]}
    assert {file.name for file in (tmp_path / "images").iterdir()} == listed


def read_instances(folder: Path) -> dict:
    return json.loads((folder / "instances.json").read_text())


def test_every_split_has_its_own_images_and_all_objects_three_expressions(small: Path) -> None:
    refs = refs_by_split(small)
    assert list(refs) == ["train", "val", "testA", "testB"]
    images = [{ref["image_id"] for ref in part} for part in refs.values()]
    assert len(set.union(*images)) == sum(map(len, images))
    for ref in (ref for part in refs.values() for ref in part):
        contents = {frozenset(sentence["tokens"]) for sentence in ref["sentences"]}
        assert len(contents) == len(ref["sentences"]) >= 3


def test_test_b_is_the_crowded_split(small: Path) -> None:
    annotations = read_instances(small)["annotations"]
    crowded = {ref["image_id"] for ref in refs_by_split(small)["testB"]}
    counts = [sum(row["image_id"] == image for row in annotations) for image in crowded]
    assert min(counts) >= 4  # 5 or 6, less an item that found no room


def test_annotated_masks_are_what_was_drawn(scenes: Scenes) -> None:
    for _, items in scenes[:40]:
        for item in items:
            drawn = drawing.mask(item, SIDE)
            annotated = segmentation_mask(make_refshapes._segmentation([item], drawn), SIDE, SIDE)
            assert (drawn & annotated).sum() / (drawn | annotated).sum() > 0.85


def test_items_do_not_overlap_and_stay_inside(scenes: Scenes) -> None:
    for _, items in scenes:
        masks = [drawing.mask(item, SIDE) for item in items]
        assert np.sum(masks, axis=0).max() == 1
        for item in items:
            corners = drawing.outline(item)
            assert corners.min() > 0 and corners.max() < SIDE


def test_most_items_have_a_distractor_of_their_shape(scenes: Scenes) -> None:
    shapes = [[item.shape for item in items] for _, items in scenes]
    shared = [row.count(shape) > 1 for row in shapes for shape in row]
    assert 0.6 < np.mean(shared) < 0.8


def test_an_expression_is_true_of_its_item_only(scenes: Scenes) -> None:
    """Each text is read again, by rules of its own, and must lead back to its one item."""
    kinds = set()
    for items, target, expression in expressions_of(scenes, Speaker, SIDE):
        assert understand(expression.text, items) == {target}, expression
        kinds.add(expression.kind)
    assert kinds == {"attribute", "place", "relation"}


def test_group_expressions_fit_all_their_items_and_nothing_fits_the_rest(scenes: Scenes) -> None:
    for rng, items in scenes[:60]:
        speaker = Speaker(items, SIDE)
        for expression in speaker.refer_to_groups(rng, 4):
            assert len(expression.items) >= 2
            actual = understand_group(expression.text, items)
            assert actual == set(expression.items), expression
        for expression in speaker.refer_to_nothing(rng, 2):
            assert understand(expression.text, items) == set(), expression


def test_the_vocabulary_holds_every_word_of_the_expressions(scenes: Scenes) -> None:
    known = set(words.vocabulary())
    for rng, items in scenes:
        speaker = Speaker(items, SIDE)
        expressions = speaker.refer_to_groups(rng, 5) + speaker.refer_to_nothing(rng, 3)
        for target in range(len(items)):
            expressions += speaker.refer(rng, target, 5)
        assert {word for expression in expressions for word in expression.text.split()} <= known


def test_generalized_refs_name_groups_and_nothing(tmp_path: Path) -> None:
    make_refshapes.run(tmp_path, SMALL.model_copy(update={"generalized": True}))
    refs = list(read_refs(tmp_path / "grefs(unc).json"))
    empty = [ref for ref in refs if ref["no_target"]]
    assert empty and all(ref["ann_id"] == [-1] for ref in empty)
    assert any(len(ref["ann_id"]) > 1 for ref in refs)
    assert not (tmp_path / "refs(unc).p").exists()


# A reader of the generator's language that shares no code with the generator.

PLACES = {
    "left": ("left", "leftmost"),
    "right": ("right", "rightmost"),
    "top": ("top", "highest"),
    "bottom": ("bottom", "lowest"),
}
RELATIONS = {
    "left": (" to the left of the ", " left of the "),
    "right": (" to the right of the ", " right of the "),
    "top": (" above the ", " over the "),
    "bottom": (" below the ", " under the "),
}


def meeting(text: str, items: tuple[Item, ...]) -> set[int]:
    """The items that have all attributes named in the text."""
    plural = {word: shape for shape, word in words.PLURALS.items()}
    named = [plural.get(word, word) for word in text.split()]
    actual = set()
    for number, item in enumerate(items):
        own = {item.shape, item.color, item.texture, item.size, "thing", "object", "the"}
        own |= {"things", "objects", "all", "both"}
        if set(named) <= own:
            actual.add(number)
    return actual


def reach(item: Item, direction: str) -> float:
    x, y = AXES[direction]
    return item.x * x + item.y * y


def understand(text: str, items: tuple[Item, ...]) -> set[int]:
    for direction, phrases in RELATIONS.items():
        for phrase in phrases:
            if phrase in text:
                first, second = text.split(phrase)
                (other,) = meeting(second, items)
                beyond = {n for n in meeting(first, items) if n != other}
                limit = reach(items[other], direction)
                return {n for n in beyond if reach(items[n], direction) > limit}
    for direction, phrases in PLACES.items():
        named = [word for word in text.split() if word in phrases]
        if named:
            rest = text
            for phrase in (" on the left", " on the right", " at the top", " at the bottom"):
                rest = rest.replace(phrase, "")
            rest = " ".join(word for word in rest.split() if word not in phrases)
            among = meeting(rest, items)
            return {max(among, key=lambda n: reach(items[n], direction))}
    return meeting(text, items)


def understand_group(text: str, items: tuple[Item, ...]) -> set[int]:
    parts = text.split(" and ")
    return set().union(*(meeting(part, items) for part in parts))


def test_the_reader_tells_when_a_text_fits_two_items() -> None:
    red = Item("circle", "red", "plain", "small", 20, 20, 9, 0)
    items = (red, Item("circle", "blue", "plain", "small", 60, 20, 9, 0))
    assert understand("circle", items) == {0, 1}
    assert understand("circle left of the blue circle", items) == {0}
    assert understand("rightmost circle", items) == {1}
    assert len(SUBSETS) == 15
