"""Malformed annotations: an error that names the place or a finding a row, never anything else."""

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from stages import prepare
from stages.config.datasets import DatasetConfig
from stages.runtime.errors import InputError
from stages.storage.files import read_json
from stages.storage.tables import read_samples

FUZZ = settings(
    max_examples=100,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
CELL = st.one_of(
    st.sampled_from(["a.png", "b.png", "../a.png", "the cup", "train", "val", "", " ", "m.png"]),
    st.text(max_size=8),
)
PLAIN = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-3, 99)
    | st.floats(allow_nan=True)
    | st.text(max_size=4)
    | st.binary(max_size=4),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=8,
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    pixels = np.zeros((6, 8, 3), np.uint8)
    for name in ("a.png", "b.png"):
        Image.fromarray(pixels).save(tmp_path / name)
    Image.fromarray(pixels[:, :, 0] + 255).save(tmp_path / "m.png")
    return tmp_path


def prepared(folder: Path, **options: Any) -> tuple[int, int] | None:
    """Expressions that were kept and findings, or nothing if the source was refused."""
    samples = folder / "out/samples.json"
    samples.unlink(missing_ok=True)
    config = DatasetConfig(images=folder, on_bad_row="drop", **options)
    try:
        prepare.run(samples, config)
    except InputError as error:
        assert str(error).strip()
        assert not samples.exists()
        return None
    return len(read_samples(samples).expressions), read_json(samples)["left_out"]


@FUZZ
@given(rows=st.lists(st.lists(CELL, min_size=2, max_size=5), max_size=6))
def test_no_row_of_a_table_is_lost_in_silence(folder: Path, rows: list[list[str]]) -> None:
    names = ("image", "expression", "split", "object", "mask")
    entries = [dict(zip(names, row, strict=False)) for row in rows]
    text = "\n".join(json.dumps(entry) for entry in entries)
    (folder / "t.jsonl").write_text(text, encoding="utf-8", errors="surrogatepass")
    try:
        (folder / "t.jsonl").read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        assert prepared(folder, source="table", annotations=folder / "t.jsonl") is None
        return
    result = prepared(folder, source="table", annotations=folder / "t.jsonl")
    if result is not None:
        kept, left_out = result
        # An object that is left out takes all of its expressions along: one finding for several.
        assert kept + left_out <= len(rows) and kept > 0
        assert kept == len(rows) or left_out > 0


@FUZZ
@given(
    content=st.binary(max_size=60)
    | st.text(max_size=60).map(lambda t: t.encode("utf-8", "replace"))
)
def test_any_bytes_can_stand_where_a_table_should(folder: Path, content: bytes) -> None:
    for name in ("t.csv", "t.jsonl", "t.parquet"):
        (folder / name).write_bytes(b"image,expression\n" * (name == "t.csv") + content)
        prepared(folder, source="table", annotations=folder / name)


def refer() -> tuple[list[Any], dict[str, Any]]:
    """A right data set of two refs."""
    corners = [[1.0, 1.0, 5.0, 1.0, 5.0, 4.0, 1.0, 4.0]]
    refs = [
        {
            "ref_id": number,
            "ann_id": number,
            "image_id": 1,
            "category_id": 1,
            "split": "train",
            "sentences": [{"sent": "the cup", "sent_id": number}],
        }
        for number in (1, 2)
    ]
    annotations = [
        {
            "id": number,
            "image_id": 1,
            "category_id": 1,
            "bbox": [1.0, 1.0, 4.0, 3.0],
            "segmentation": corners,
            "iscrowd": 0,
        }
        for number in (1, 2)
    ]
    images = [{"id": 1, "file_name": "a.png", "width": 8, "height": 6}]
    instances = {
        "images": images,
        "annotations": annotations,
        "categories": [{"id": 1, "name": "cup"}],
    }
    return refs, instances


def spoil(draw: Any, value: Any) -> Any:
    """The value with one thing in it replaced, removed or added."""
    if isinstance(value, dict) and value and draw(st.integers(0, 3)):
        key = draw(st.sampled_from(sorted(value)))
        if not draw(st.integers(0, 4)):
            return {name: one for name, one in value.items() if name != key}
        return {**value, key: spoil(draw, value[key])}
    if isinstance(value, list) and value and draw(st.integers(0, 3)):
        place = draw(st.integers(0, len(value) - 1))
        return [spoil(draw, one) if n == place else one for n, one in enumerate(value)]
    return draw(PLAIN)


@FUZZ
@given(data=st.data())
def test_spoiled_refer_files_are_refused_or_their_refs_named(folder: Path, data: Any) -> None:
    refs, instances = refer()
    if data.draw(st.booleans()):
        refs = spoil(data.draw, refs)
    else:
        instances = spoil(data.draw, instances)
    (folder / "refs(unc).p").write_bytes(pickle.dumps(refs, protocol=2))
    try:
        (folder / "instances.json").write_text(json.dumps(instances))
    except TypeError:  # bytes
        return
    result = prepared(folder, source="refer", annotations=folder, split_by="unc")
    if result is not None and isinstance(refs, list) and len(refs) == 2:
        kept, left_out = result
        assert kept == 2 or left_out > 0
