"""One bit of a file flips: the file is named in one line, or all that is read stays the same."""

import logging
import random
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import save_file

from stages.config.product import FILES
from stages.runtime.errors import InputError
from stages.storage.damage import STEPS
from stages.storage.parquet import read_parquet, write_parquet
from stages.storage.steps import read_steps
from stages.storage.tables import SCHEMAS, read_samples, read_table, write_table
from stages.storage.weights import load_weights, read_published, save_weights
from stages.training.checkpoint import load_state, save_state
from tests.conftest import few_shapes

FLIPS = 100
ABOUT = {"kind": "line", "config": '{"epochs": 3}'}


def tensors() -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    return {
        "weight": torch.randn(40, 30),
        "half": torch.randn(60, dtype=torch.bfloat16),
        "steps": torch.tensor(7),
        "none": torch.zeros(0, 3),
    }


def resume_state() -> dict[str, Any]:
    return {
        "fingerprint": "a",
        "weights": tensors(),
        "optimizer": {"state": {0: {"exp_avg": torch.randn(30)}}, "param_groups": [{"lr": 0.1}]},
        "history": [{"step": 1, "loss": 0.5}],
    }


def map_rows() -> list[dict[str, Any]]:
    generator = np.random.default_rng(0)
    return [
        {
            "object": index,
            "expression": 2 * index,
            "height": 12,
            "width": 12,
            "input_size": 96,
            "grid": generator.normal(size=144).astype("<f4").tobytes(),
            "scores": generator.normal(size=2).tolist(),
        }
        for index in range(40)
    ]


def write_weights(path: Path) -> None:
    save_weights(path, tensors(), ABOUT)


def write_state(path: Path) -> None:
    save_state(path, resume_state())


def write_maps(path: Path) -> None:
    write_table(path, "maps", map_rows())


def write_rows(path: Path) -> None:
    write_parquet(path, pd.DataFrame({"expression": range(500), "iou": np.linspace(0, 1, 500)}))


def read_state(path: Path) -> dict[str, Any]:
    """A state that is not used is an error here; the training says why in one warning."""
    state = load_state(path, "a")
    if state is None:
        raise InputError(f"{path}: see the log")
    return state


Kind = tuple[str, Callable[[Path], None], Callable[[Path], Any]]
KINDS: list[Kind] = [
    ("model.state.pt", write_state, read_state),
    ("published.pth", lambda path: torch.save(tensors(), path), read_published),
    ("model.safetensors", write_weights, load_weights),
    ("maps.parquet", write_maps, lambda path: read_table("maps", path)),
    ("rows.parquet", write_rows, read_parquet),
]


def flipped(content: bytes, count: int) -> Iterator[bytes]:
    """Copies of a file in each of which one bit differs."""
    for bit in random.Random(0).sample(range(8 * len(content)), count):
        copy = bytearray(content)
        copy[bit // 8] ^= 1 << bit % 8
        yield bytes(copy)


def as_arrow(table: pd.DataFrame) -> pa.Table:
    return pa.Table.from_pandas(table, preserve_index=False)


def is_equal(value: Any, other: Any) -> bool:
    """Equal to the last bit, in types too."""
    if type(value) is not type(other):
        return False
    if isinstance(value, torch.Tensor):
        return value.dtype == other.dtype and torch.equal(value, other)
    if isinstance(value, dict):
        return value.keys() == other.keys() and all(is_equal(value[k], other[k]) for k in value)
    if isinstance(value, tuple | list):
        return len(value) == len(other) and all(map(is_equal, value, other))
    if isinstance(value, pd.DataFrame):
        return value.dtypes.equals(other.dtypes) and as_arrow(value).equals(as_arrow(other))
    return bool(value == other)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind[0])
def test_a_flipped_bit_is_named_or_changes_nothing(
    kind: Kind, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    name, write, read = kind
    path = tmp_path / name
    write(path)
    content, original, num_named = path.read_bytes(), read(path), 0
    for copy in flipped(content, FLIPS):
        path.write_bytes(copy)
        caplog.clear()
        try:
            assert is_equal(read(path), original)
        except InputError as error:
            text = str(error) if "see the log" not in str(error) else caplog.messages[0]
            assert str(path) in text and "\n" not in text
            num_named += 1
    assert num_named > FLIPS / 2
    path.write_bytes(content)
    assert is_equal(read(path), original)


def test_a_damaged_result_names_the_step_that_makes_it_again(tmp_path: Path) -> None:
    folder = tmp_path / "results/work/segmentor/mine-0123456789ab"
    folder.mkdir(parents=True)
    path = folder / "model.safetensors"
    write_weights(path)
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    link = tmp_path / "results/mine/segmentor"
    link.parent.mkdir()
    link.symlink_to(folder)
    for place in (path, link / path.name):
        with pytest.raises(InputError) as caught:
            load_weights(place)
        assert str(caught.value) == (
            f"{place}: damaged (other weights than its checksum says); delete it and run the same"
            " command again: the step train_segmentor makes it anew"
        )
    outside = shutil.copy(path, tmp_path / "copy.safetensors")
    with pytest.raises(InputError, match=r"damaged \(.*\); copy it again, or make it anew$"):
        load_weights(outside)


def test_every_product_that_is_checked_has_its_step() -> None:
    unchecked = {"shapes", "images", "visualized", "masks"}  # JSON, and bytes of images
    assert set(STEPS) == set(FILES) - unchecked


def test_a_damaged_state_is_told_once_and_not_used(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "model.state.pt"
    write_state(path)
    weights = tensors()["weight"].numpy().tobytes()
    content = path.read_bytes()
    assert content.count(weights) == 1
    path.write_bytes(content.replace(weights, bytes([weights[0] ^ 1]) + weights[1:]))
    with caplog.at_level(logging.WARNING):
        assert load_state(path, "a") is None
    pattern = rf"{re.escape(str(path))}: damaged \(wrong checksum of .*\); training starts from"
    assert len(caplog.messages) == 1 and re.match(pattern, caplog.messages[0])


def test_files_without_checksums_still_load(tmp_path: Path) -> None:
    """As version 0.1 and other programs write them."""
    old = tmp_path / "old.safetensors"
    save_file(tensors(), old, metadata={"about": '{"kind": "line"}'})
    state, about = load_weights(old)
    assert is_equal(state, tensors()) and about == {"kind": "line"}
    table = tmp_path / "old.parquet"
    pq.write_table(pa.Table.from_pylist(map_rows(), schema=SCHEMAS["maps"]), table)
    assert len(read_table("maps", table)) == 40
    before_archives = tmp_path / "old.pth"
    torch.save(tensors(), before_archives, _use_new_zipfile_serialization=False)
    assert is_equal(read_published(before_archives), tensors())
    without = tmp_path / "without.pth"
    torch.serialization.set_crc32_options(False)
    try:
        torch.save(tensors(), without)
    finally:
        torch.serialization.set_crc32_options(True)
    assert is_equal(read_published(without), tensors())


def test_equal_weights_give_equal_bytes(tmp_path: Path) -> None:
    first, second = tmp_path / "first.safetensors", tmp_path / "second.safetensors"
    save_weights(first, tensors(), ABOUT)
    save_weights(second, dict(reversed(tensors().items())), ABOUT)
    assert first.read_bytes() == second.read_bytes()


@pytest.mark.parametrize("content", [b"", b"steps", b"a: [", b"\xff"])
def test_the_steps_of_a_page_that_are_damaged_are_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "steps.yaml").write_bytes(content)
    with pytest.raises(InputError, match=r"steps\.yaml: damaged; delete it"):
        read_steps(tmp_path / "steps.yaml")


def test_a_table_that_is_gone_from_its_samples_is_named_with_the_remedy(tmp_path: Path) -> None:
    samples = few_shapes(tmp_path, train_images=1, val_images=1, test_images=1)
    (tmp_path / "images.parquet").unlink()
    with pytest.raises(InputError, match=r"images\.parquet: not there; delete samples\.json"):
        read_samples(samples)
