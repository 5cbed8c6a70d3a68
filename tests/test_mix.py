"""Several data sets as one: images once, names and splits kept apart, no test image in train."""

import logging
from pathlib import Path

import pandas as pd
import pytest

from stages import mix
from stages.config.datasets import DatasetConfig
from stages.runtime.errors import InputError
from stages.storage.files import read_json
from stages.storage.tables import Samples, read_samples, write_samples


def samples(objects: list[tuple[str, str]], width: int = 8) -> Samples:
    """Objects of (image file, split), each with two expressions."""
    files = sorted({file for file, _ in objects})
    rows = range(len(objects))
    return Samples(
        pd.DataFrame({"image": range(len(files)), "file": files, "width": width, "height": 6}),
        pd.DataFrame(
            {
                "object": rows,
                "image": [files.index(file) for file, _ in objects],
                "split": [split for _, split in objects],
                "name": [f"{row}" for row in rows],
                "category": None,
                "boxes": [[] for _ in rows],
                "mask": None,
                "no_target": False,
            }
        ),
        pd.DataFrame(
            {
                "expression": range(2 * len(objects)),
                "object": [row for row in rows for _ in range(2)],
                "text": [f"{file} {split} {n}" for file, split in objects for n in range(2)],
                "kind": None,
                "raw": None,
            }
        ),
    )


@pytest.fixture
def members(tmp_path: Path) -> list[Path]:
    first = samples([("a.jpg", "train"), ("b.jpg", "train"), ("c.jpg", "val")])
    second = samples([("c.jpg", "train"), ("a.jpg", "train"), ("b.jpg", "testA")])
    folders = [tmp_path / "first", tmp_path / "second"]
    for folder, part in zip(folders, (first, second), strict=True):
        write_samples(folder, part)
    return folders


def mixed(folder: Path, members: list[Path], **options: bool) -> Samples:
    config = DatasetConfig(source="mix", members=("first", "second"), **options)
    mix.run(folder / "mixed/samples.json", members, config)
    return read_samples(folder / "mixed/samples.json")


def test_all_objects_keep_their_image_split_name_and_texts(
    tmp_path: Path, members: list[Path]
) -> None:
    whole = mixed(tmp_path, members, drop_evaluated_images=False)
    assert whole.images.file.tolist() == ["a.jpg", "b.jpg", "c.jpg"]
    rows = whole.objects.merge(whole.images, on="image")
    assert list(zip(rows.file, rows.split, rows.name, strict=True)) == [
        ("a.jpg", "train", "first:0"),
        ("b.jpg", "train", "first:1"),
        ("c.jpg", "first_val", "first:2"),
        ("c.jpg", "train", "second:0"),
        ("a.jpg", "train", "second:1"),
        ("b.jpg", "second_testA", "second:2"),
    ]
    message = whole.expressions.merge(whole.objects, on="object").merge(whole.images, on="image")
    assert all(text.startswith(file) for text, file in zip(message.text, message.file, strict=True))
    assert whole.expressions.expression.tolist() == list(range(12))
    assert len(whole.split("second_testA").objects) == 1


def test_train_has_no_image_that_is_evaluated_on(
    tmp_path: Path, members: list[Path], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        whole = mixed(tmp_path, members)
    assert "left out of train: 2 objects of images that are evaluated on" in caplog.messages
    train = whole.split("train")
    assert train.objects.name.tolist() == ["first:0", "second:1"]
    assert train.images.file.tolist() == ["a.jpg"]
    assert whole.objects.object.tolist() == list(range(4))
    assert set(whole.expressions.object) == set(range(4))
    assert read_json(tmp_path / "mixed/samples.json")["splits"]["train"]["objects"] == 2


def test_pooled_splits_of_one_name_are_one(tmp_path: Path, members: list[Path]) -> None:
    write_samples(members[1], samples([("d.jpg", "val"), ("a.jpg", "train")]))
    whole = mixed(tmp_path, members, pooled=True, drop_evaluated_images=False)
    assert whole.objects.split.tolist() == ["train", "train", "val", "val", "train"]
    assert whole.split("val").objects.name.tolist() == ["first:2", "second:0"]


def test_one_picture_of_two_sizes_is_refused(tmp_path: Path, members: list[Path]) -> None:
    write_samples(members[1], samples([("b.jpg", "train")], width=9))
    with pytest.raises(InputError, match=r"b\.jpg: two sizes in two data sets"):
        mixed(tmp_path, members)
