"""Images that are resized once are, byte for byte, those that steps would decode."""

import pickle
import shutil
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from skimage import data as photographs

from stages import make_refshapes, prepare, resize_images
from stages.config.datasets import DatasetConfig, RefShapes
from stages.config.section import ResizeModeName
from stages.config.sizes import keeps_images, known_objects
from stages.data.dataset import ReferringDataset, inference_batches
from stages.data.images import read_image
from stages.data.resize_modes import RESIZE_MODES
from stages.data.resized import ResizedImages
from stages.data.shapes.words import vocabulary
from stages.data.text import WordTokenizer
from stages.runtime.errors import InputError
from stages.storage.tables import SCHEMAS, read_samples, write_table

TOKENIZER = WordTokenizer(vocabulary(), 20)
BOTH = pytest.mark.parametrize("resize_mode", ["stretch", "letterbox"])


@pytest.fixture
def samples(tmp_path: Path) -> Path:
    """Pictures of several shapes and kinds, in a table of images."""
    photograph = Image.fromarray(photographs.astronaut())
    kinds = {
        "wide.jpg": photograph.resize((90, 50)),
        "high.png": photograph.resize((31, 77)),
        "gray.png": photograph.resize((40, 40)).convert("L"),
        "tiny.png": photograph.resize((1, 3)),
        "clear.webp": photograph.resize((33, 21)).convert("RGBA"),
    }
    rows = []
    for number, (name, picture) in enumerate(kinds.items()):
        picture.save(tmp_path / name)
        width, height = picture.size
        file = str(tmp_path / name)
        rows.append({"image": number, "file": file, "width": width, "height": height})
    assert list(rows[0]) == SCHEMAS["images"].names
    write_table(tmp_path / "images.parquet", "images", rows)
    return tmp_path / "samples.json"


@BOTH
@pytest.mark.parametrize("workers", [1, 3])
def test_the_file_holds_what_would_be_decoded(
    samples: Path, resize_mode: ResizeModeName, workers: int
) -> None:
    images = samples.parent / "images.npy"
    resize_images.run(samples, images, resize_mode, 48, workers)
    actual = ResizedImages(images, 48)
    for number, name in enumerate(["wide.jpg", "high.png", "gray.png", "tiny.png", "clear.webp"]):
        expected = RESIZE_MODES[resize_mode].image(read_image(samples.parent / name), 48)
        assert torch.equal(actual[number], expected)


@BOTH
def test_batches_are_the_same_with_and_without_the_file(
    tmp_path: Path, resize_mode: ResizeModeName
) -> None:
    make_refshapes.run(tmp_path, RefShapes(train_images=5, val_images=2, test_images=1))
    samples, images = tmp_path / "samples.json", tmp_path / "images.npy"
    prepare.run(samples, DatasetConfig(source="refshapes", annotations=tmp_path))
    resize_images.run(samples, images, resize_mode, 64)
    for split in ("train", "val"):  # images of val are not the first ones of the file
        part = read_samples(samples).split(split)
        decoded = ReferringDataset(part, TOKENIZER, 64, resize_mode=resize_mode)
        stored = ReferringDataset(part, TOKENIZER, 64, resize_mode=resize_mode, images=images)
        pairs = zip(inference_batches(decoded, 9), inference_batches(stored, 9), strict=True)
        assert all(torch.equal(one["images"], other["images"]) for one, other in pairs)
        assert torch.equal(decoded[0, 1].pixels, stored[0, 1].pixels)
        assert not stored.cache


def test_another_process_opens_the_file_and_is_not_sent_it(samples: Path) -> None:
    images = samples.parent / "images.npy"
    resize_images.run(samples, images, "stretch", 48)
    actual = ResizedImages(images, 48)
    assert len(pickle.dumps(actual)) < 1000
    assert torch.equal(pickle.loads(pickle.dumps(actual))[2], actual[2])


def test_too_little_room_is_told_before_anything_is_written(
    samples: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(samples.parent)._replace(free=34_559)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    images = samples.parent / "images.npy"
    with pytest.raises(InputError, match=r"images.npy: 34,560 bytes; only 34,559 are free in"):
        resize_images.run(samples, images, "stretch", 48)  # 5 x 3 x 48 x 48
    assert sorted(path.suffix for path in samples.parent.glob("*images*")) == [".parquet"]


def test_an_image_that_is_gone_is_told_and_nothing_is_left(samples: Path) -> None:
    (samples.parent / "gray.png").unlink()
    with pytest.raises(InputError, match=r"gray\.png: no such image"):
        resize_images.run(samples, samples.parent / "images.npy", "stretch", 48)
    assert not list(samples.parent.glob("*.npy"))


def test_a_file_of_another_size_or_kind_is_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "small.npy", np.zeros((2, 3, 8, 8), np.uint8))
    np.save(tmp_path / "float.npy", np.zeros((2, 3, 9, 9)))
    (tmp_path / "text.npy").write_text("no pixels in here")
    with pytest.raises(InputError, match=r"small.npy: uint8 of shape .*; needed bytes of .3, 9, 9"):
        ResizedImages(tmp_path / "small.npy", 9)
    with pytest.raises(InputError, match="float64 of shape"):
        ResizedImages(tmp_path / "float.npy", 9)
    with pytest.raises(InputError, match="needed a file of resize_images"):
        ResizedImages(tmp_path / "text.npy", 9)


@pytest.mark.parametrize(
    ("option", "expected"),
    [("auto", [False, True]), ("always", [True] * 2), ("never", [False] * 2)],
)
def test_images_of_large_data_sets_are_kept_unless_told_otherwise(
    option: str, expected: list[bool]
) -> None:
    datasets = {
        "few": DatasetConfig(source="refer", published={"train": 10_000}),
        "many": DatasetConfig(source="refer", published={"train": 10_001}),
    }

    def count(name: str) -> int:
        return known_objects(name, "train", datasets) or 0

    assert [keeps_images(option, partial(count, name)) for name in datasets] == expected
