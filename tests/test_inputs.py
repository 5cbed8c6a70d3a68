"""Inputs as users have them: each is read right or named in one line (tests/cases, and others)."""

import json
import logging
import pickle
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from stages import prepare
from stages.config.datasets import DatasetConfig
from stages.data.images import read_image
from stages.data.orientation import TAG, TURNS
from stages.data.pixels import object_pixels
from stages.runtime.errors import InputError
from stages.storage.masks import Mask, decode
from stages.storage.tables import Samples, read_samples

CASES = Path(__file__).parent / "cases"
WIDTH, HEIGHT = 64, 48  # of the images of all cases


@pytest.fixture
def case(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A copy of the case that the test names."""
    return Path(shutil.copytree(CASES / request.param, tmp_path / "case"))


def of(name: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("case", [name], indirect=True)


def prepared(folder: Path, **options: Any) -> Samples:
    given = {"source": "table", "annotations": folder / "t.csv", "images": folder, **options}
    prepare.run(folder / "out/samples.json", DatasetConfig.model_validate(given))
    return read_samples(folder / "out/samples.json")


def table(folder: Path, text: str, **options: Any) -> Samples:
    """What is prepared of the text of a table; the images are those of a case."""
    for name in ("a.jpg", "b.jpg"):
        shutil.copy(CASES / "csv_unclosed_quote" / name, folder)
    path = folder / options.pop("name", "t.csv")
    path.write_text(text, encoding="utf-8")
    return prepared(folder, annotations=path, **options)


def masks_of(samples: Samples) -> list[Mask]:
    sizes = samples.images.set_index("image")
    return [
        decode(row.mask, int(sizes.height[row.image]), int(sizes.width[row.image]))
        for row in samples.objects.itertuples()
    ]


def truth() -> Mask:
    """The object of the masks of the cases: 13.0 % of the image."""
    mask = np.zeros((HEIGHT, WIDTH), dtype=bool)
    mask[10:30, 20:40] = True
    return mask


# Tables


@of("csv_unclosed_quote")
def test_a_quote_left_open_is_told_with_its_line_and_spoils_no_other(case: Path) -> None:
    with pytest.raises(InputError, match=r"1 bad rows.*\n.*t\.csv:2: a quote opens in this line"):
        prepared(case)
    kept = prepared(case, on_bad_row="drop")
    assert kept.expressions.text.tolist() == ["the dog", "a cup"]


@of("csv_unknown_columns")
def test_a_column_that_is_not_known_is_named_with_the_closest(case: Path) -> None:
    with pytest.raises(InputError, match=r"'object_id' is not known; did you mean object\?"):
        prepared(case)
    text = (case / "t.csv").read_text().replace("object_id", " Object ")
    (case / "t.csv").write_text(text)
    assert prepared(case).objects.split.tolist() == ["train", "val"]
    assert read_samples(case / "out/samples.json").objects.name.tolist() == ["1", "2"]


@of("csv_empty_rows")
def test_an_empty_row_is_told_as_that(case: Path) -> None:
    with pytest.raises(InputError, match=r"t\.csv:3: image and expression are empty"):
        prepared(case)
    assert prepared(case, on_bad_row="drop").expressions.text.tolist() == ["the man"]


@of("split_with_hyphen")
def test_a_split_that_files_cannot_be_named_by_is_refused_when_it_is_read(case: Path) -> None:
    with pytest.raises(InputError, match=r"t\.csv:3: split 'test-A'; needed .*such as test_A"):
        prepared(case)


BAD_TABLES = {
    "a line break in an expression": ('a.jpg,"the man\non the left"', ":2: a quote opens"),
    "text after a quote": ('a.jpg,"the man" left', ":2: text before or after a quote"),
    "a space before a quote": ('a.jpg, "the man, left"', ":2: a space stands before a quote"),
    "too few cells": ("a.jpg", ":2: fewer cells than columns"),
    "numbers for words": ("a.jpg,0 0.5 0.5 0.2 0.3", ":2: no letter in the expression"),
    "an escape code": ("a.jpg,the \x1b[31mred man", ":2: a line break, tab or control character"),
    "a control character in a name": ("a\x00.jpg,the man", r":2: image: .* has a control char"),
    "no image": (",the man", ":2: image is empty"),
    "a folder in place of an image": (".,the man", "a folder; needed the file of an image"),
}


@pytest.mark.parametrize("name", BAD_TABLES)
def test_a_row_that_is_not_clear_is_told_with_its_line(tmp_path: Path, name: str) -> None:
    row, message = BAD_TABLES[name]
    with pytest.raises(InputError, match=message) as caught:
        table(tmp_path, f"image,expression\n{row}\nb.jpg,the dog\n")
    assert "\x1b" not in str(caught.value)


BAD_HEADERS = {
    "twice": ("image,expression,Expression", "'expression' and 'Expression' are both expression"),
    "without a name": (",image,expression", r"column 1 has no name; .*to_csv\(index=False\)"),
    "misspelled": ("image,expression,spilt", "'spilt' is not known; did you mean split?"),
    "of another table": ("id,caption", "no column 'image' among id, caption"),
}


@pytest.mark.parametrize("name", BAD_HEADERS)
def test_a_column_that_is_not_clear_is_told(tmp_path: Path, name: str) -> None:
    header, message = BAD_HEADERS[name]
    with pytest.raises(InputError, match=message):
        table(tmp_path, f"{header}\na.jpg,the man,x\n")


@pytest.mark.parametrize("separator", [";", "\t", "|"])
def test_other_separators_are_found_and_told(
    tmp_path: Path, separator: str, caplog: pytest.LogCaptureFixture
) -> None:
    rows = [" IMAGE ,Ex pression", 'a.jpg,"the ""big"" man"']
    text = "\ufeff" + "\r\n".join(rows).replace(",", separator)
    with caplog.at_level(logging.INFO):
        samples = table(tmp_path, text)
    assert samples.expressions.text.tolist() == ['the "big" man']
    assert "t.csv:1: cells end with a" in caplog.text


def test_a_comma_in_a_table_of_semicolons_stays_in_its_expression(tmp_path: Path) -> None:
    samples = table(tmp_path, "image;expression\na.jpg;the man, left\n", name="t.CSV")
    assert samples.expressions.text.tolist() == ["the man, left"]


BAD_LINES = {
    "a name twice": ('{"image": "a.jpg", "image": "b.jpg", "expression": "x"}', "stands twice"),
    "two names of a column": ('{"image": "a.jpg", "Image": "b", "expression": "x"}', "twice"),
    "an unknown name": ('{"image": "a.jpg", "text": "x"}', "'text' is not known"),
    "a number for words": ('{"image": "a.jpg", "expression": 7}', r"expression: 7 \(int\)"),
    "a list": ('{"image": "a.jpg", "expression": ["x"]}', r"\(list\); needed a text"),
    "yes for a name": ('{"image": "a.jpg", "expression": "x", "object": true}', r"\(bool\)"),
    "half a character": ('{"image": "a.jpg", "expression": "\\ud83d"}', "half of a character"),
    "no number": ('{"image": "a.jpg", "expression": "x", "object": Infinity}', r"\(float\)"),
    "one list": ('[{"image": "a.jpg", "expression": "x"}]', "one JSON list; needed one object"),
}


@pytest.mark.parametrize("name", BAD_LINES)
def test_a_line_of_jsonl_that_is_not_clear_is_told(tmp_path: Path, name: str) -> None:
    line, message = BAD_LINES[name]
    with pytest.raises(InputError, match=message):
        table(tmp_path, line, name="t.jsonl")


def test_an_index_of_pandas_is_no_column_and_whole_numbers_are_names(tmp_path: Path) -> None:
    table(tmp_path, "image,expression\na.jpg,x\n")
    rows = {"image": ["a.jpg", "b.jpg"], "expression": ["the man", "the dog"]}
    frame = pd.DataFrame({**rows, "Object": [1.0, None]}, index=[5, 9])
    frame.to_parquet(tmp_path / "t.parquet")
    samples = prepared(tmp_path, annotations=tmp_path / "t.parquet")
    assert samples.objects.name.tolist() == ["1", "row 1"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"<!DOCTYPE html><html></html>", "a web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "a Git LFS pointer"),
        ("image,expression".encode("utf-16"), "UTF-16: save it as UTF-8"),
        (b"\x1f\x8b\x08", "compressed by gzip"),
        (b"image,expression\na.jpg,caf\xe9\n", "needed UTF-8 text"),
    ],
)
def test_what_is_no_table_is_named_by_what_it_is(
    tmp_path: Path, content: bytes, message: str
) -> None:
    (tmp_path / "t.csv").write_bytes(content)
    with pytest.raises(InputError, match=message):
        prepared(tmp_path)


# Masks


@of("mask_palette")
def test_the_colors_of_a_palette_decide_and_not_its_numbers(case: Path) -> None:
    assert (masks_of(prepared(case))[0] == truth()).all()


@of("mask_rgb_dark")
def test_a_mask_of_a_dark_color_is_one(case: Path) -> None:
    samples = prepared(case)
    assert (masks_of(samples)[0] == truth()).all() and not samples.objects.no_target[0]


@of("mask_jpeg")
def test_a_lossy_mask_has_its_object_and_is_told(
    case: Path, caplog: pytest.LogCaptureFixture
) -> None:
    mask = masks_of(prepared(case))[0]
    assert 100 * abs(mask.mean() - truth().mean()) <= 0.3
    assert "1 masks are not exact; the first: " in caplog.text
    assert "m.jpg: saved as JPEG, which changes values" in caplog.text


def test_black_pixels_of_any_opacity_are_no_object_and_black_with_an_outline_is_refused() -> None:
    clear = np.zeros((4, 4, 4), np.uint8)
    clear[:, :, :3] = 255
    clear[:2, :, 3] = 9
    assert object_pixels(Image.fromarray(clear))[0].sum() == 8
    clear[:, :, :3] = 0
    with pytest.raises(ValueError, match="black, with transparency"):
        object_pixels(Image.fromarray(clear))


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (Image.new("CMYK", (4, 4)), "mode CMYK, in which 0 is not black"),
        (Image.new("LAB", (4, 4)), "mode LAB"),
        (Image.fromarray(np.full((4, 4), np.nan, np.float32)), "no numbers"),
        (Image.fromarray(np.full((4, 4), -1, np.int32)), "values below 0"),
    ],
)
def test_a_mask_of_the_wrong_mode_is_named_as_that(image: Image.Image, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        object_pixels(image)


def test_a_photograph_is_no_lossy_mask(tmp_path: Path) -> None:
    ramp = np.add.outer(np.arange(64), np.arange(64)).astype(np.uint8)
    with pytest.raises(ValueError, match="gray or colored in a lossy format"):
        object_pixels(Image.fromarray(ramp), "JPEG")
    with pytest.raises(ValueError, match="values up to 1 in a lossy format"):
        object_pixels(Image.fromarray(ramp.clip(0, 1)), "JPEG")
    frames = [Image.new("L", (8, 8), value) for value in (0, 255)]
    frames[0].save(tmp_path / "m.gif", save_all=True, append_images=frames[1:])
    with Image.open(tmp_path / "m.gif") as opened, pytest.raises(ValueError, match="several fram"):
        object_pixels(opened)


# Images


@pytest.mark.parametrize(
    ("mode", "dtype", "message"),
    [
        ("F", np.float32, "floating-point values, whose range is not known"),
        ("I", np.int32, "32-bit values"),
    ],
)
def test_images_of_an_unknown_range_are_refused_when_they_are_checked_and_read(
    tmp_path: Path, mode: str, dtype: type, message: str
) -> None:
    Image.fromarray(np.ones((HEIGHT, WIDTH), dtype)).save(tmp_path / "f.tif")
    with Image.open(tmp_path / "f.tif") as opened:
        assert opened.mode == mode
    with pytest.raises(InputError, match=rf"f\.tif: {message}"):
        table(tmp_path, "image,expression\nf.tif,the man\n")
    with pytest.raises(InputError, match=message):
        read_image(tmp_path / "f.tif")


@pytest.mark.parametrize("ending", ["tif", "png", "pgm"])
def test_sixteen_bits_are_scaled_in_every_format(tmp_path: Path, ending: str) -> None:
    values = (np.arange(256, dtype=np.uint16) * 257).reshape(16, 16)
    path = tmp_path / f"deep.{ending}"
    Image.fromarray(values).save(path)
    assert (np.asarray(read_image(path))[:, :, 0] == values // 257).all()


# Annotations


def refer_case(folder: Path, segmentation: Any, **changes: Any) -> Samples:
    """A REFER data set of one ref with this segmentation."""
    shutil.copytree(CASES / "rle_short", folder / "refer")
    path = folder / "refer/instances.json"
    content = json.loads(path.read_text())
    content["annotations"][0] |= {"segmentation": segmentation, **changes}
    path.write_text(json.dumps(content))
    return prepared(folder / "refer", source="refer", annotations=folder / "refer", split_by="unc")


@of("rle_short")
def test_run_lengths_that_do_not_fill_the_image_are_refused(case: Path) -> None:
    with pytest.raises(InputError, match="run lengths sum to 510, needed 3,072"):
        prepared(case, source="refer", annotations=case, split_by="unc")


BAD_SHAPES: dict[str, tuple[Any, str]] = {
    "a short text": ({"size": [48, 64], "counts": "5:"}, "run lengths sum to 15, needed 3,072"),
    "a text cut off": ({"size": [48, 64], "counts": "5:QU"}, "end within a number"),
    "another text": ({"size": [48, 64], "counts": "\u20ac"}, "characters that COCO's text"),
    "a space": ({"size": [48, 64], "counts": "5 :"}, "run lengths with ' '"),
    "a run below 0": ({"size": [48, 64], "counts": [-5, 3077]}, "whole numbers from 0 on"),
    "half a pixel": ({"size": [48, 64], "counts": [0.5, 3071.5]}, "whole numbers from 0 on"),
    "sides turned": ({"size": [64, 48], "counts": [0, 3072]}, "of 48 x 64 pixels"),
    "pairs": ([[[5, 5], [15, 5], [15, 15]]], "polygons of pairs"),
    "a polygon of pairs": ([[5, 5], [15, 5], [15, 15]], "polygons of pairs"),
    "fractions": ([[0.1, 0.1, 0.3, 0.1, 0.3, 0.4]], "polygons between 0 and 1"),
    "an odd number": ([[5, 5, 15, 5, 15, 15, 7]], "a polygon of 7 numbers"),
    "no number": ([[5, 5, 15, 5, 15, float("nan")]], "nan or infinity"),
    "far outside": ([[5, 5, 1e9, 5, 15, 15]], r"reaches to x = 1e\+09; the image ends at 64"),
}


@pytest.mark.parametrize("name", BAD_SHAPES)
def test_shapes_that_pycocotools_would_draw_somehow_are_refused(tmp_path: Path, name: str) -> None:
    segmentation, message = BAD_SHAPES[name]
    with pytest.raises(InputError, match=message):
        refer_case(tmp_path, segmentation)


def test_a_box_in_fractions_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="between 0 and 1, in fractions of the image"):
        refer_case(tmp_path, [[5, 5, 15, 5, 15, 15]], bbox=[0.1, 0.2, 0.3, 0.4])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"ann_id": []}, r"ann_id is empty; needed \[-1\]"),
        ({"no_target": True}, r"no_target is True and ann_id \[5\]"),
        ({"ann_id": [-1], "no_target": False}, r"no_target is False and ann_id \[-1\]"),
        ({"split": "test-A"}, "split 'test-A'; needed letters"),
    ],
)
def test_refs_that_contradict_themselves_are_named(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    folder = Path(shutil.copytree(CASES / "exif_180", tmp_path / "case"))
    refs = pickle.loads((folder / "refs(unc).p").read_bytes())
    (folder / "grefs(unc).json").write_text(json.dumps([{**refs[0], **changes}]))
    with pytest.raises(InputError, match=message):
        prepared(folder, source="grefcoco", annotations=folder, split_by="unc")


# Frames of reference


@of("exif_180")
def test_a_refer_annotation_is_turned_with_its_image_and_told(
    case: Path, caplog: pytest.LogCaptureFixture
) -> None:
    samples = prepared(case, source="refer", annotations=case, split_by="unc")
    stored = np.zeros((HEIGHT, WIDTH), dtype=bool)
    stored[5:15, 5:15] = True
    assert (masks_of(samples)[0] == stored[::-1, ::-1]).all()
    assert [list(box) for box in samples.objects.boxes[0]] == [[49, 33, 10, 10]]
    assert "1 objects are turned upright with their images" in caplog.text


def turned(path: Path, orientation: int) -> None:
    """An image that is stored as it was taken, with the tag that says how to turn it."""
    exif = Image.Exif()
    exif[TAG] = orientation
    pixels = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    pixels[5:15, 5:25] = 255
    Image.fromarray(pixels).save(path, exif=exif)


@pytest.mark.parametrize("ending", ["png", "tif"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_object_lies_on_its_pixels_whatever_the_tag(
    tmp_path: Path, orientation: int, ending: str
) -> None:
    shutil.copytree(CASES / "exif_180", tmp_path / "case")
    turned(tmp_path / f"case/b.{ending}", orientation)
    path = tmp_path / "case/instances.json"
    content = json.loads(path.read_text())
    content["images"][0]["file_name"] = f"b.{ending}"
    corners = [5.0, 5.0, 25.0, 5.0, 25.0, 15.0, 5.0, 15.0]
    content["annotations"][0] |= {"segmentation": [corners], "bbox": [5, 5, 20, 10]}
    path.write_text(json.dumps(content))
    folder = tmp_path / "case"
    samples = prepared(folder, source="refer", annotations=folder, split_by="unc")
    bright = np.asarray(read_image(folder / f"b.{ending}"))[:, :, 0] > 127
    assert (masks_of(samples)[0] == bright).all()
    x, y, w, h = (int(value) for value in samples.objects.boxes[0][0])
    assert bright[y : y + h, x : x + w].all() and bright.sum() == w * h


@pytest.mark.parametrize("orientation", [3, 6, 7])
def test_a_mask_of_an_own_table_is_taken_as_viewers_show_it(
    tmp_path: Path, orientation: int, caplog: pytest.LogCaptureFixture
) -> None:
    turned(tmp_path / "t.png", orientation)
    upright = read_image(tmp_path / "t.png")
    upright.save(tmp_path / "plain.png")  # made by a tool that heeds the tag
    shutil.copy(tmp_path / "t.png", tmp_path / "tagged.png")  # made by one that keeps it
    for mask in ("plain.png", "tagged.png"):
        samples = table(tmp_path, f"image,expression,mask\nt.png,the man,{mask}\n")
        assert (masks_of(samples)[0] == (np.asarray(upright)[:, :, 0] > 0)).all()
        assert "1 masks are taken as upright, since their images are turned" in caplog.text


@pytest.mark.parametrize("value", [0, 9, 6 << 8, 65535])
def test_a_tag_without_meaning_turns_nothing(tmp_path: Path, value: int) -> None:
    turned(tmp_path / "t.png", value)
    assert read_image(tmp_path / "t.png").size == (WIDTH, HEIGHT)
    samples = table(tmp_path, "image,expression,mask\nt.png,the man,t.png\n")
    assert masks_of(samples)[0][5:15, 5:25].all() and TURNS.keys() == set(range(2, 9))


def test_an_annotation_of_the_turned_image_names_the_tag(tmp_path: Path) -> None:
    shutil.copytree(CASES / "exif_180", tmp_path / "case")
    turned(tmp_path / "case/a.jpg", 6)
    path = tmp_path / "case/instances.json"
    path.write_text(
        path.read_text().replace('"width": 64, "height": 48', '"width": 48, "height": 64')
    )
    with pytest.raises(InputError, match="its EXIF orientation is 6; needed the stored pixels"):
        folder = tmp_path / "case"
        prepared(folder, source="refer", annotations=folder, split_by="unc")


# LMDB


@of("lmdb_same_name")
def test_images_of_one_name_in_two_folders_are_two(case: Path) -> None:
    samples = prepared(case, source="lmdb", annotations=case, images=case / "images")
    assert len(samples.images) == len(samples.objects) == 2
    assert sorted(path.parent.name for path in case.glob("images/*/1.jpg")) == ["x", "y"]
    first, second = ((case / "images" / name / "1.jpg").read_bytes() for name in "xy")
    assert first != second
    (case / "images/x/1.jpg").write_bytes(second)
    with pytest.raises(InputError, match=r"x/1\.jpg is there and is another image"):
        prepared(case, source="lmdb", annotations=case, images=case / "images")
