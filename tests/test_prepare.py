"""Preparing a data set: every bad row is told with its place, and none is lost in silence."""

import csv
import json
import logging
import pickle
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from stages import make_refshapes, prepare
from stages.config.datasets import DatasetConfig, RefShapes
from stages.runtime.errors import InputError
from stages.storage.masks import decode
from stages.storage.tables import Samples, read_samples
from tests.conftest import file_hash

WIDTH, HEIGHT = 40, 30
SQUARE = [10.0, 5.0, 20.0, 5.0, 20.0, 15.0, 10.0, 15.0]
Row = dict[str, Any]
GOOD: list[Row] = [
    {"image": "a.jpg", "expression": "the red cup", "split": "train", "object": "1"},
    {"image": "a.jpg", "expression": "cup on the left", "split": "train", "object": "1"},
    {"image": "b.png", "expression": "the dog", "split": "val", "object": "1"},
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two images and a mask."""
    noise = np.random.default_rng(0).integers(0, 255, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "a.jpg")
    Image.fromarray(noise).save(tmp_path / "b.png")
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    mask[5:15, 10:20] = 255
    Image.fromarray(mask).save(tmp_path / "mask.png")
    return tmp_path


def prepare_table(folder: Path, rows: list[Row], **options: Any) -> Samples:
    table = folder / "mine.csv"
    names = list(dict.fromkeys(name for row in rows for name in row))
    with table.open("w", newline="") as file:
        writer = csv.DictWriter(file, names)
        writer.writeheader()
        writer.writerows(rows)
    return prepare_source(folder, source="table", annotations=table, images=folder, **options)


def prepare_source(folder: Path, **options: Any) -> Samples:
    samples = folder / "out" / "samples.json"
    prepare.run(samples, DatasetConfig(**options))
    return read_samples(samples)


def refer_data() -> dict[str, Any]:
    """A REFER data set of two refs, as plain values to spoil."""
    sentence = {"sent_id": 0, "sent": "the red cup", "raw": "the red cup", "tokens": []}
    annotation = {
        "id": 5,
        "image_id": 1,
        "category_id": 1,
        "bbox": [10.0, 5.0, 10.0, 10.0],
        "segmentation": [SQUARE],
        "iscrowd": 0,
    }
    ref = {
        "ref_id": 70,
        "ann_id": 5,
        "category_id": 1,
        "image_id": 1,
        "split": "train",
        "sentences": [sentence, {**sentence, "sent_id": 1, "sent": "left cup"}],
    }
    return {
        "images": [{"id": 1, "file_name": "a.jpg", "width": WIDTH, "height": HEIGHT}],
        "annotations": [annotation, {**annotation, "id": 6}],
        "categories": [{"id": 1, "name": "cup"}],
        "refs": [ref, {**ref, "ref_id": 71, "ann_id": 6, "split": "val"}],
    }


def prepare_refer(folder: Path, data: dict[str, Any], **options: Any) -> Samples:
    if options.get("source") == "grefcoco":
        (folder / "grefs(unc).json").write_text(json.dumps(data["refs"]))
    else:
        (folder / "refs(unc).p").write_bytes(pickle.dumps(data["refs"], protocol=2))
    (folder / "instances.json").write_text(json.dumps(data))
    given = {"source": "refer", "annotations": folder, "images": folder, "split_by": "unc"}
    return prepare_source(folder, **(given | options))


def test_a_table_becomes_objects_with_their_expressions(folder: Path) -> None:
    samples = prepare_table(folder, GOOD)
    assert samples.images.file.tolist() == [(folder / n).as_posix() for n in ("a.jpg", "b.png")]
    assert samples.images.width.tolist() == [WIDTH, WIDTH]
    assert samples.objects.split.tolist() == ["train", "val"]
    assert samples.objects["mask"].isna().all()
    assert samples.expressions.object.tolist() == [0, 0, 1]
    assert samples.expressions.text.tolist() == [row["expression"] for row in GOOD]


def test_an_image_that_is_written_in_two_ways_is_one(folder: Path) -> None:
    rows = [{"image": name, "expression": "red", "object": "1"} for name in ("a.jpg", "./a.jpg")]
    with pytest.raises(InputError, match="repeats an expression of its object"):
        prepare_table(folder, rows)
    rows[1]["expression"] = "blue"
    samples = prepare_table(folder, rows)
    assert samples.images.file.tolist() == [(folder / "a.jpg").as_posix()]
    assert samples.expressions.object.tolist() == [0, 0]


@pytest.mark.parametrize("ending", [".jsonl", ".parquet"])
def test_the_same_rows_in_another_format_give_the_same_samples(folder: Path, ending: str) -> None:
    expected = prepare_table(folder, GOOD)
    table = folder / f"mine{ending}"
    if ending == ".jsonl":
        table.write_text("".join(json.dumps(row) + "\n" for row in GOOD))
    else:
        pd.DataFrame(GOOD).to_parquet(table)
    actual = prepare_source(folder, source="table", annotations=table, images=folder)
    pd.testing.assert_frame_equal(actual.objects, expected.objects)
    pd.testing.assert_frame_equal(actual.expressions, expected.expressions)


@pytest.mark.parametrize("ending", [".csv", ".jsonl", ".parquet"])
def test_rows_of_an_object_need_not_be_neighbors(folder: Path, ending: str) -> None:
    """Objects are in the order of their first rows, and so are the expressions of each."""
    rows = [
        {"image": "b.png", "expression": "first", "object": "x"},
        {"image": "a.jpg", "expression": "second", "object": "x"},
        {"image": "b.png", "expression": "third", "object": "y"},
        {"image": "b.png", "expression": "fourth", "object": "x"},
        {"image": "a.jpg", "expression": "fifth", "object": "x"},
    ]
    table = folder / f"mine{ending}"
    if ending == ".csv":
        pd.DataFrame(rows).to_csv(table, index=False)
    elif ending == ".jsonl":
        pd.DataFrame(rows).to_json(table, orient="records", lines=True)
    else:
        pd.DataFrame(rows).to_parquet(table, row_group_size=2)
    samples = prepare_source(folder, source="table", annotations=table, images=folder)
    assert samples.images.file.tolist() == [(folder / n).as_posix() for n in ("b.png", "a.jpg")]
    assert samples.objects.name.tolist() == ["x", "x", "y"]
    assert samples.objects.image.tolist() == [0, 1, 0]
    assert samples.expressions.object.tolist() == [0, 0, 1, 1, 2]
    assert samples.expressions.text.tolist() == ["first", "fourth", "second", "fifth", "third"]


def test_an_image_gets_its_number_from_the_first_object_that_is_right(folder: Path) -> None:
    rows = [{"image": "a.jpg", "expression": " "}, *GOOD[2:], GOOD[0]]
    samples = prepare_table(folder, rows, on_bad_row="drop")
    assert samples.images.file.tolist() == [(folder / n).as_posix() for n in ("b.png", "a.jpg")]
    assert samples.objects.image.tolist() == [0, 1]


def test_without_object_and_mask_each_row_is_an_object_of_train(folder: Path) -> None:
    rows = [{"image": "a.jpg", "expression": text} for text in ("cup", "dog")]
    samples = prepare_table(folder, rows)
    assert samples.objects.split.tolist() == ["train", "train"]
    assert samples.expressions.object.tolist() == [0, 1]


def test_rows_with_the_same_mask_are_one_object_with_its_box(folder: Path) -> None:
    rows = [{"image": "a.jpg", "expression": e, "mask": "mask.png"} for e in ("cup", "red cup")]
    samples = prepare_table(folder, rows)
    assert len(samples.objects) == 1
    target = samples.objects.iloc[0]
    assert [list(box) for box in target.boxes] == [[10, 5, 10, 10]]
    assert decode(target["mask"], HEIGHT, WIDTH).sum() == 100 and not target.no_target


def test_an_empty_mask_means_that_nothing_is_meant(folder: Path) -> None:
    Image.new("L", (WIDTH, HEIGHT)).save(folder / "none.png")
    rows = [{"image": "a.jpg", "expression": "the unicorn", "mask": "none.png"}]
    assert prepare_table(folder, rows).objects.no_target.tolist() == [True]


def test_a_comma_in_a_quoted_expression_and_other_languages_survive(folder: Path) -> None:
    texts = ["der Mann, links", 'the "big" café', "左边的人"]
    samples = prepare_table(folder, [{"image": "a.jpg", "expression": text} for text in texts])
    assert samples.expressions.text.tolist() == texts


def truncate(folder: Path) -> Row:
    whole = (folder / "a.jpg").read_bytes()
    (folder / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    return {"image": "cut.jpg", "expression": "the cup"}


def no_image(folder: Path) -> Row:
    (folder / "text.jpg").write_text("this is no image")
    return {"image": "text.jpg", "expression": "the cup"}


def small_mask(folder: Path) -> Row:
    Image.new("L", (8, 9)).save(folder / "small.png")
    return {"image": "a.jpg", "expression": "the cup", "object": "9", "mask": "small.png"}


BAD_ROWS: dict[str, tuple[Callable[[Path], Row], str]] = {
    "missing image": (lambda _: {"image": "no.jpg", "expression": "x"}, r"no\.jpg: no such image"),
    "truncated image": (truncate, r"cut\.jpg: does not decode"),
    "not an image": (no_image, r"text\.jpg: not an image"),
    "empty expression": (lambda _: {"image": "a.jpg", "expression": " "}, "5: empty expression"),
    "endless expression": (
        lambda _: {"image": "a.jpg", "expression": "x" * 1001},
        "5: 1001 characters; needed at most 1000",
    ),
    "mask of another size": (small_mask, r"5: its mask: .*small\.png has 8 x 9 pixels; .*40 x 30"),
    "missing mask": (
        lambda _: {"image": "a.jpg", "expression": "x", "mask": "no.png"},
        r"5: its mask: .*no\.png is not there; needed one of 40 x 30",
    ),
    "object in two splits": (
        lambda _: {**GOOD[0], "expression": "another", "split": "val"},
        r"5: split or mask differs from .*mine\.csv:2",
    ),
    "repeated expression": (lambda _: dict(GOOD[0]), "5: repeats an expression"),
}


@pytest.mark.parametrize("name", BAD_ROWS)
def test_a_bad_row_stops_with_its_place_and_finding(folder: Path, name: str) -> None:
    make, message = BAD_ROWS[name]
    with pytest.raises(InputError, match=message):
        prepare_table(folder, [*GOOD, make(folder)])
    assert not (folder / "out").exists()


@pytest.mark.parametrize("name", BAD_ROWS)
def test_a_dropped_row_is_warned_about_and_the_others_stay(
    folder: Path, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    make, message = BAD_ROWS[name]
    with caplog.at_level(logging.WARNING):
        samples = prepare_table(folder, [*GOOD, make(folder)], on_bad_row="drop")
    assert samples.expressions.text.tolist() == [row["expression"] for row in GOOD]
    assert re.search(message, caplog.text)
    assert "rows were left out" in caplog.text


def test_at_most_twenty_findings_are_shown_and_the_rest_counted(folder: Path) -> None:
    rows = [{"image": "a.jpg", "expression": "", "object": str(n)} for n in range(30)]
    with pytest.raises(InputError) as caught:
        prepare_table(folder, rows)
    lines = str(caught.value).splitlines()
    assert lines[0].startswith("30 bad rows")
    assert len(lines) == 22 and lines[-1] == "... and 10 more"


def test_findings_of_rows_are_told_before_those_of_objects_in_their_order(folder: Path) -> None:
    bad = ["", "no.jpg", "x" * 1001, "a.jpg"]
    rows = [
        {"image": "no.jpg" if text == "no.jpg" else "a.jpg", "expression": text, "object": text[:1]}
        for text in bad
    ]
    rows.insert(2, {"image": "a.jpg", "expression": "a.jpg", "object": "a"})
    with pytest.raises(InputError) as caught:
        prepare_table(folder, rows)
    places = [re.search(r"csv:(\d+): ", line) for line in str(caught.value).splitlines()[1:]]
    assert [int(place[1]) for place in places if place] == [2, 5, 3, 6]


def test_an_error_leaves_nothing_behind_and_what_was_there_stays(folder: Path) -> None:
    prepare_table(folder, GOOD)
    before = {path: file_hash(path) for path in (folder / "out").iterdir()}
    with pytest.raises(InputError):
        prepare_table(folder, [*GOOD, {"image": "no.jpg", "expression": "x"}])
    assert {path: file_hash(path) for path in (folder / "out").iterdir()} == before


def test_half_a_character_is_a_finding(folder: Path) -> None:
    table = folder / "mine.jsonl"
    rows = [*GOOD, {"image": "a.jpg", "expression": "\ud83d"}]
    rows.append({"image": "a.jpg", "expression": "x", "split": "\ud83d"})
    table.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(InputError, match=r"(?s)jsonl:4: half of a .*jsonl:5: half of a character"):
        prepare_source(folder, source="table", annotations=table, images=folder)


def test_if_no_row_is_left_that_is_an_error_even_when_dropping(folder: Path) -> None:
    with pytest.raises(InputError, match="no object is left"):
        prepare_table(folder, [{"image": "no.jpg", "expression": "x"}], on_bad_row="drop")


def test_a_table_without_a_needed_column_names_it(folder: Path) -> None:
    with pytest.raises(InputError, match="no column 'expression' among image, text"):
        prepare_table(folder, [{"image": "a.jpg", "text": "the cup"}])


def test_an_unquoted_comma_is_told_with_its_line(folder: Path) -> None:
    (folder / "mine.csv").write_text("image,expression\na.jpg,the cup, left\n")
    with pytest.raises(InputError, match=r"mine\.csv:2: more cells than columns"):
        prepare_source(folder, source="table", annotations=folder / "mine.csv", images=folder)


def test_a_broken_line_of_jsonl_is_told_with_its_number(folder: Path) -> None:
    (folder / "mine.jsonl").write_text('{"image": "a.jpg", "expression": "x"}\n{"image":\n')
    with pytest.raises(InputError, match=r"mine\.jsonl:2: no JSON object"):
        prepare_source(folder, source="table", annotations=folder / "mine.jsonl", images=folder)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"annotations": None}, "annotations: not given"),
        ({"annotations": Path("nowhere.csv")}, "nowhere.csv: no such file"),
        ({"annotations": Path("README.md")}, "needed a table that ends in .csv"),
        ({"images": Path("nowhere")}, "nowhere: no such folder"),
    ],
)
def test_wrong_paths_are_named(folder: Path, options: dict[str, Any], message: str) -> None:
    (folder / "README.md").write_text("")
    given = {"source": "table", "annotations": Path("mine.csv"), "images": Path()} | options
    if given["annotations"] is not None:
        given["annotations"] = folder / given["annotations"]
    with pytest.raises(InputError, match=message):
        prepare_source(folder, **{**given, "images": folder / given["images"]})


def test_refer_becomes_objects_with_masks_boxes_and_names(folder: Path) -> None:
    samples = prepare_refer(folder, refer_data())
    target = samples.objects.iloc[0]
    assert samples.objects.name.tolist() == ["70", "71"]
    assert (target.split, target.category, bool(target.no_target)) == ("train", "cup", False)
    assert decode(target["mask"], HEIGHT, WIDTH).sum() == 100
    assert [list(box) for box in target.boxes] == [[10, 5, 10, 10]]
    assert len(samples.images) == 1


Spoil = Callable[[dict[str, Any]], object]
SPOILED: dict[str, tuple[Spoil, str]] = {
    "repeated ref": (lambda d: d["refs"][1].update(ref_id=70), "ref 70: its ref_id appears before"),
    "no annotation": (lambda d: d["refs"][1].update(ann_id=9), "ref 71: nothing under 9"),
    "no sentences": (lambda d: d["refs"][1].update(sentences=[]), "ref 71: no expression"),
    "other image": (
        lambda d: d["annotations"][1].update(image_id=2),
        "ref 71: annotation 6 is of another image",
    ),
    "box outside": (
        lambda d: d["annotations"][1].update(bbox=[30, 5, 20, 10]),
        "ref 71: box .* reaches out of its image of 40 x 30",
    ),
    "box without extent": (
        lambda d: d["annotations"][1].update(bbox=[30, 5, 0, 10]),
        "ref 71: box .* needed x, y, width and height",
    ),
    "empty mask": (
        lambda d: d["annotations"][1].update(segmentation=[[1, 1, 2, 2]]),
        "ref 71: its mask: no pixel",
    ),
    "mask of another size": (
        lambda d: d["annotations"][1].update(segmentation={"size": [5, 5], "counts": [25]}),
        "ref 71: its mask: of 5 x 5 pixels; needed one of 40 x 30",
    ),
    "no segmentation": (
        lambda d: d["annotations"][1].update(segmentation="mask"),
        "ref 71: its mask: no COCO segmentation",
    ),
}


@pytest.mark.parametrize("name", SPOILED)
def test_a_bad_ref_is_told_and_can_be_dropped(folder: Path, name: str) -> None:
    spoil, message = SPOILED[name]
    data = refer_data()
    spoil(data)
    with pytest.raises(InputError, match=message):
        prepare_refer(folder, data)
    assert prepare_refer(folder, data, on_bad_row="drop").objects.name.tolist() == ["70"]


@pytest.mark.parametrize("kind", [int, str])
def test_ids_may_be_numbers_or_texts(folder: Path, kind: type) -> None:
    data = refer_data()
    for image in data["images"]:
        image["id"] = kind(image["id"])
    for annotation in data["annotations"]:
        annotation.update(id=kind(annotation["id"]), image_id=kind(annotation["image_id"]))
    for ref in data["refs"]:
        ref.update({name: kind(ref[name]) for name in ("ref_id", "ann_id", "image_id")})
    assert prepare_refer(folder, data).objects.name.tolist() == ["70", "71"]


def test_the_number_1_and_the_text_1_are_two_ids(folder: Path) -> None:
    data = refer_data()
    data["refs"][1]["ann_id"] = "6"
    with pytest.raises(InputError, match="ref 71: nothing under '6'; needed in the ref or in"):
        prepare_refer(folder, data)


def test_an_image_of_another_size_than_annotated_is_told(folder: Path) -> None:
    data = refer_data()
    data["images"][0]["width"] = 99
    with pytest.raises(InputError, match="has 40 x 30 pixels; annotated are 99 x 30"):
        prepare_refer(folder, data)


def test_a_missing_refs_file_names_the_option(folder: Path) -> None:
    with pytest.raises(InputError, match=r"refs\(umd\)\.p: no such file; needed for split_by: umd"):
        prepare_refer(folder, refer_data(), split_by="umd")


def test_grefcoco_groups_are_unions_and_nothing_is_an_empty_mask(folder: Path) -> None:
    data = refer_data()
    moved = [value + 2 for value in SQUARE]
    data["annotations"][1].update(segmentation=[moved], bbox=[12.0, 7.0, 10.0, 10.0])
    data["refs"][0]["ann_id"] = [5, 6]
    data["refs"][1].update(ann_id=[-1], no_target=True)
    samples = prepare_refer(folder, data, source="grefcoco")
    group, nothing = (row for _, row in samples.objects.iterrows())
    assert decode(group["mask"], HEIGHT, WIDTH).sum() == 100 + 100 - 8 * 8
    assert len(group.boxes) == 2 and not group.no_target
    assert nothing.no_target and len(nothing.boxes) == 0
    assert not decode(nothing["mask"], HEIGHT, WIDTH).any()


MOVED = [value + 2 for value in SQUARE]
COLUMN = {"size": [HEIGHT, WIDTH], "counts": [5, 10, HEIGHT * WIDTH - 15]}  # rows 5 to 14 of 0
SEGMENTATIONS: dict[str, tuple[Any, int, int]] = {  # the pixels of the union, and of the official
    "polygon": ([SQUARE], 100, 100),
    "polygons that overlap": ([SQUARE, MOVED], 100 + 100 - 64, 100 + 100 - 2 * 64),
    "run lengths": (COLUMN, 10, 10),
    "compressed run lengths": ({**COLUMN, "counts": "5:QU1"}, 10, 10),
    "a list of run lengths": ([COLUMN], 10, 10),
}


@pytest.mark.parametrize("name", SEGMENTATIONS)
def test_a_mask_has_the_pixels_that_are_annotated(folder: Path, name: str) -> None:
    segmentation, union, official = SEGMENTATIONS[name]
    data = refer_data()
    data["annotations"][0].update(segmentation=segmentation, iscrowd=int(name == "run lengths"))
    for overlap, pixels in {"union": union, "official": official}.items():
        samples = prepare_refer(folder, data, overlap=overlap)
        assert decode(samples.objects["mask"][0], HEIGHT, WIDTH).sum() == pixels
        assert samples.expressions.text.tolist() == 2 * ["the red cup", "left cup"]


def test_crowds_are_left_out_of_a_group(folder: Path) -> None:
    data = refer_data()
    data["annotations"][1].update(iscrowd=1, segmentation={"size": [30, 40], "counts": [0, 1200]})
    data["refs"] = [{**data["refs"][0], "ann_id": [5, 6]}]
    samples = prepare_refer(folder, data, source="grefcoco")
    assert decode(samples.objects["mask"][0], HEIGHT, WIDTH).sum() == 100


@pytest.mark.parametrize("generalized", [False, True])
def test_refshapes_goes_through_the_real_parser(tmp_path: Path, generalized: bool) -> None:
    options = RefShapes(train_images=4, val_images=2, test_images=1, generalized=generalized)
    make_refshapes.run(tmp_path, options)
    samples = prepare_source(tmp_path, source="refshapes", annotations=tmp_path, refshapes=options)
    assert samples.objects.split.unique().tolist() == ["train", "val", "testA", "testB"]
    assert samples.objects.no_target.any() == generalized
    assert {"attribute", "place"} <= set(samples.expressions.kind)


def test_counts_are_compared_with_the_published_ones(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        prepare_table(folder, GOOD, published={"train": 1, "val": 2000, "test": 3})
    assert "train: 1 objects, as published" in caplog.messages
    assert "val: 1 objects; published are 2,000" in caplog.messages
    assert "test: 0 objects; published are 3" in caplog.messages
