"""Masks in the formats of other tools, read back by each format's own package or rule.

RUN-LENGTHS and images hold the same pixels. Polygons hold them by COCO's rule: corners of polygons
are corners of pixels, and pycocotools draws the inside. Programs that draw the border too (OpenCV,
Pillow) have up to a pixel more at the right and the lower edge.
"""

import csv
import json
import shutil
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as Xml

import numpy as np
import pandas as pd
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as draw
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from PIL import Image
from pycocotools import mask as coco_masks
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from stages import prepare, write_masks
from stages.config.datasets import DatasetConfig
from stages.config.exports import MaskFormat
from stages.data.refer import load_plain
from stages.mask_formats.polygons import joined, polygons
from stages.mask_formats.rows import MaskRows
from stages.runtime.errors import InputError
from stages.storage.masks import decode, encode
from stages.storage.tables import Samples, read_samples, write_samples, write_table
from tests.conftest import few_shapes

MaskArray = NDArray[np.bool_]
Masks = dict[tuple[str, int], MaskArray]  # by the name of the image and the area of the mask


@pytest.fixture(scope="module")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """RefShapes; its rings have holes."""
    folder = tmp_path_factory.mktemp("shapes")
    return few_shapes(folder, train_images=1, val_images=12, test_images=1)


def written(samples: Path, kind: MaskFormat, folder: Path) -> Path:
    """The true masks of val in a format."""
    write_masks.run(samples, "val", "ground_truth", kind, folder / "record.json")
    return folder / "val"


def test_an_export_stays_in_its_folder_where_images_have_dots_in_their_names(
    shapes: Path, tmp_path: Path
) -> None:
    whole = read_samples(shapes)
    folder, beside = Path(whole.images.file.iloc[0]).parent, tmp_path / "beside"
    shutil.copytree(folder, beside / "pictures")
    names = [Path(file).name for file in whole.images.file]
    given = [f"{beside}/pictures/{name}" for name in names]
    shutil.copytree(folder, beside / "other")
    given[1::2] = [f"{beside}/pictures/../other/{name}" for name in names[1::2]]
    write_samples(tmp_path / "samples", replace(whole, images=whole.images.assign(file=given)))
    shutil.copy(shapes, tmp_path / "samples/samples.json")
    samples, out = tmp_path / "samples/samples.json", tmp_path / "deep/out"
    for kind in ("labelme", "yolo", "coco-panoptic"):
        write_masks.run(samples, "val", "ground_truth", kind, out / kind / "record.json")
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["out"]
    assert {path.name for path in out.iterdir()} == {"labelme", "yolo", "coco-panoptic"}
    assert list((out / "labelme/val/other").glob("*.json"))


def true_masks(samples: Path) -> dict[int, MaskArray]:
    """By the number of the object."""
    part = read_samples(samples).split("val")
    rows = part.objects.merge(part.images, on="image")
    return {row.object: decode(row.mask, row.height, row.width) for row in rows.itertuples()}


def of_polygons(rings: Iterable[Any], height: int, width: int) -> MaskArray:
    """Polygons by COCO's rule: their union."""
    flat = [np.asarray(ring, float).ravel().tolist() for ring in rings]
    return coco_masks.decode(coco_masks.merge(coco_masks.frPyObjects(flat, height, width))) > 0


def read_coco(folder: Path) -> dict[int, MaskArray]:
    opened = COCO(folder / "instances.json")
    return {row["object"]: opened.annToMask(row) > 0 for row in opened.anns.values()}


def read_panoptic(folder: Path) -> dict[int, MaskArray]:
    content = json.loads((folder / "panoptic.json").read_text())
    masks = {}
    for annotation in content["annotations"]:
        with Image.open(folder / "panoptic" / annotation["file_name"]) as opened:
            colors = np.asarray(opened).astype(np.int64)
        numbers = colors[..., 0] + 256 * colors[..., 1] + 256**2 * colors[..., 2]  # as its rgb2id
        assert set(np.unique(numbers)) - {0} == {s["id"] for s in annotation["segments_info"]}
        for segment in annotation["segments_info"]:
            masks[segment["id"] - 1] = numbers == segment["id"]
            assert masks[segment["id"] - 1].sum() == segment["area"]
    return masks


def read_cvat(folder: Path) -> list[MaskArray]:
    masks = []
    for image in Xml.parse(folder / "annotations.xml").getroot().iter("image"):
        for element in image.iter("mask"):
            runs = [int(run) for run in element.attrib["rle"].split(",")]
            values = np.repeat(np.arange(len(runs)) % 2, runs).astype(bool)
            left, top, width, height = (
                int(element.attrib[name]) for name in ("left", "top", "width", "height")
            )
            mask = np.zeros((int(image.attrib["height"]), int(image.attrib["width"])), bool)
            mask[top : top + height, left : left + width] = values.reshape(height, width)
            masks.append(mask)
    return masks


def read_yolo(folder: Path) -> list[MaskArray]:
    config = yaml.safe_load((folder / "data.yaml").read_text())
    masks = []
    images = sorted((folder / config["val"]).iterdir())
    for image in images:  # a label file has the place of its image, with other folder and ending
        with Image.open(image) as opened:
            width, height = opened.size
        file = Path(str(image).replace("/images/", "/labels/")).with_suffix(".txt")
        for line in file.read_text().splitlines():
            number, *numbers = line.split()
            assert int(number) in config["names"]
            corners = np.array(numbers, float).reshape(-1, 2) * (width, height)
            masks.append(of_polygons([corners], height, width))
    return masks


def read_labelme(folder: Path) -> dict[int, MaskArray]:
    masks = {}
    for file in sorted(folder.glob("*.json")):
        content = json.loads(file.read_text())
        assert (folder / content["imagePath"]).is_file()
        groups: dict[int, list[Any]] = {}
        for shape in content["shapes"]:
            assert shape["shape_type"] == "polygon"
            groups.setdefault(shape["group_id"], []).append(shape["points"])
        for number, rings in groups.items():
            size = content["imageHeight"], content["imageWidth"]
            masks[number] = of_polygons(rings, *size)
    return masks


READERS: dict[MaskFormat, Callable[[Path], Any]] = {
    "coco": read_coco,
    "coco-panoptic": read_panoptic,
    "cvat": read_cvat,
    "yolo": read_yolo,
    "labelme": read_labelme,
}


@pytest.mark.parametrize("kind", READERS)
def test_a_format_holds_the_same_masks(shapes: Path, tmp_path: Path, kind: MaskFormat) -> None:
    masks = READERS[kind](written(shapes, kind, tmp_path))
    expected = true_masks(shapes)
    if isinstance(masks, dict):
        assert masks.keys() == expected.keys()
        assert all(np.array_equal(masks[number], mask) for number, mask in expected.items())
    else:  # in the order of images and objects
        assert len(masks) == len(expected)
        assert {mask.tobytes() for mask in masks} == {mask.tobytes() for mask in expected.values()}
    record = json.loads((tmp_path / "record.json").read_text())
    assert (record["masks"], record["empty"]) == (len(expected), 0)


@pytest.mark.parametrize("kind", ["refer", "png"])
def test_prepare_reads_back_the_same_masks_and_expressions(
    shapes: Path, tmp_path: Path, kind: MaskFormat
) -> None:
    folder = written(shapes, kind, tmp_path)
    before = read_samples(shapes).split("val")
    config = DatasetConfig(source="table", annotations=folder / "table.csv")
    if kind == "refer":
        images = MaskRows(read_samples(shapes), ["val"], "ground_truth").folder
        config = DatasetConfig(
            source="refer", annotations=folder, images=images, split_by="risflow"
        )
    prepare.run(tmp_path / "again/samples.json", config)
    after = read_samples(tmp_path / "again/samples.json")
    assert after.objects["mask"].tolist() == before.objects["mask"].tolist()
    assert after.expressions.text.tolist() == before.expressions.text.tolist()
    assert set(after.objects.split) == {"val"}
    names = [[Path(file).name for file in part.images.file] for part in (before, after)]
    assert names[0] == names[1]
    if kind == "refer":
        assert after.objects.category.tolist() == before.objects.category.tolist()
        assert after.expressions.kind.tolist() == before.expressions.kind.tolist()


@pytest.mark.parametrize("orientation", range(2, 9))
def test_refs_of_an_image_that_exif_turns_are_of_its_stored_pixels(
    tmp_path: Path, orientation: int
) -> None:
    tag = Image.Exif()
    tag[0x0112] = orientation
    Image.new("RGB", (8, 6)).save(tmp_path / "turned.jpg", exif=tag)
    (upright := np.zeros((8, 6) if orientation >= 5 else (6, 8), bool))[1:3, 1:5] = True
    Image.fromarray(upright).save(tmp_path / "mask.png")
    table = tmp_path / "table.csv"
    table.write_text("image,expression,split,mask\nturned.jpg,the corner,val,mask.png\n")
    samples = tmp_path / "samples/samples.json"
    prepare.run(samples, DatasetConfig(source="table", annotations=table, images=tmp_path))

    folder = written(samples.parent, "refer", tmp_path)

    image = json.loads((folder / "instances.json").read_text())["images"][0]
    assert (image["width"], image["height"]) == (8, 6)
    again = DatasetConfig(source="refer", annotations=folder, images=tmp_path, split_by="risflow")
    prepare.run(tmp_path / "again/samples.json", again)
    (read,) = read_samples(tmp_path / "again/samples.json").objects["mask"]
    assert np.array_equal(decode(read, *upright.shape), upright)


def test_refs_are_what_the_official_reader_expects(shapes: Path, tmp_path: Path) -> None:
    """REFER's getMask decodes `segmentation` whole unless its first element is a list."""
    folder = written(shapes, "refer", tmp_path)
    refs = load_plain((folder / "refs(risflow).p").read_bytes())
    content = json.loads((folder / "instances.json").read_text())
    annotations = {row["id"]: row for row in content["annotations"]}
    for ref in refs:
        segmentation = annotations[ref["ann_id"]]["segmentation"]
        assert not isinstance(segmentation[0], list)
        mask = coco_masks.decode(segmentation).sum(axis=2)
        assert np.array_equal(mask > 0, true_masks(shapes)[ref["ref_id"] - 1])
        assert ref["sent_ids"] == [sentence["sent_id"] for sentence in ref["sentences"]]


def test_a_coco_file_can_be_evaluated_against_itself(shapes: Path, tmp_path: Path) -> None:
    """COCO's own evaluation: predictions that are the ground truth have an AP of 1."""
    opened = COCO(written(shapes, "coco", tmp_path) / "instances.json")
    found = opened.loadRes([{**row, "score": 1.0} for row in opened.anns.values()])
    evaluation = COCOeval(opened, found, "segm")
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    assert evaluation.stats[0] == pytest.approx(1)


def several(folder: Path) -> tuple[Path, Samples]:
    """Two pictures of one name in two folders, one object each: with two expressions, and empty."""
    objects, images = [], []
    for number, (name, mask) in enumerate([("a.png", True), ("a.jpg", False)]):
        Image.new("RGB", (6, 4)).save(folder / name)
        images.append({"image": number, "file": str(folder / name), "width": 6, "height": 4})
        pixels = np.zeros((4, 6), bool)
        pixels[1:3, 2:5] = mask
        known = {"object": number, "image": number, "split": "val", "name": str(number)}
        objects.append({**known, "mask": encode(pixels), "no_target": False})
    texts = [(0, "the box"), (0, 'it, the "box"'), (1, "nothing")]
    expressions = [
        {"expression": number, "object": target, "text": text}
        for number, (target, text) in enumerate(texts)
    ]
    for kind, rows in {"images": images, "objects": objects, "expressions": expressions}.items():
        write_table(folder / f"{kind}.parquet", kind, rows)
    return folder, read_samples(folder)


def test_a_split_without_masks_has_no_export(tmp_path: Path) -> None:
    samples, _ = several(tmp_path)
    objects = pd.read_parquet(tmp_path / "objects.parquet").assign(mask=None)
    write_table(tmp_path / "objects.parquet", "objects", objects)
    with pytest.raises(InputError, match="ground truth: no object of these splits has a mask"):
        written(samples, "coco", tmp_path / "out")


@pytest.mark.parametrize("kind", ["coco", "coco-panoptic", "cvat", "yolo", "labelme", "refer"])
def test_empty_masks_are_left_out_and_counted(tmp_path: Path, kind: MaskFormat) -> None:
    samples, _ = several(tmp_path)
    folder = written(samples, kind, tmp_path / "out")
    record = json.loads((tmp_path / "out/record.json").read_text())
    assert (record["images"], record["masks"], record["empty"]) == (2, 2, 1)
    if kind in READERS:
        assert len(READERS[kind](folder)) == 1
    else:
        assert len(load_plain((folder / "refs(risflow).p").read_bytes())) == 1


def test_predictions_are_masks_of_expressions(tmp_path: Path) -> None:
    samples, _ = several(tmp_path)
    rows = []
    for number, (target, width, score) in enumerate([(0, 2, 0.25), (0, 3, 0.5), (1, 6, 1.0)]):
        pixels = np.zeros((4, 6), bool)
        pixels[:, :width] = True
        about = {"expression": number, "object": target, "height": 4, "width": 6}
        place = {"row": 0, "column": 0, "score": score, "no_target": number == 2}
        rows.append({**about, "mask": encode(pixels), **place})
    write_table(tmp_path / "p.parquet", "predictions", rows)
    shards = [tmp_path / "p.parquet"]
    for kind in ("coco", "coco-panoptic", "png"):
        folder = tmp_path / kind
        write_masks.run(samples, "val", "predictions", kind, folder / "r.json", shards)
    opened = COCO(tmp_path / "coco/val/instances.json")
    assert [(row["score"], row["expressions"]) for row in opened.anns.values()] == [
        (0.25, ["the box"]),
        (0.5, ['it, the "box"']),
    ]  # where no target is predicted, the mask is empty
    panoptic = json.loads((tmp_path / "coco-panoptic/val/panoptic.json").read_text())
    segments = [row["segments_info"] for row in panoptic["annotations"]]
    assert [[s["area"] for s in of_image] for of_image in segments] == [[12], []]
    with (tmp_path / "png/val/table.csv").open() as file:
        table = list(csv.DictReader(file))
    areas = []
    for row in table:
        with Image.open(tmp_path / "png/val" / row["mask"]) as mask:
            assert mask.mode == "L"
            areas.append(int((np.asarray(mask) == 255).sum()))
    assert areas == [8, 12, 0]
    assert [row["expression"] for row in table] == ["the box", 'it, the "box"', "nothing"]


@given(arrays(bool, draw.tuples(draw.integers(1, 12), draw.integers(1, 12))))
def test_polygons_hold_the_same_pixels(mask: MaskArray) -> None:
    rings = polygons(mask)
    if not mask.any():
        assert rings == []
        return
    assert np.array_equal(of_polygons(rings, *mask.shape), mask)
    assert np.array_equal(of_polygons([joined(rings)], *mask.shape), mask)


def test_a_hole_and_parts_that_touch_at_a_corner_are_told_apart() -> None:
    ring = np.ones((5, 5), bool)
    ring[2, 2] = False
    (outline,) = polygons(ring)
    assert len(outline) == 4 + 1 + 4 + 1  # there, around, and back
    assert len(polygons(np.eye(3, dtype=bool))) == 3
