"""Drawn inputs: the right value or one line, never a traceback and never silence.

300 examples each with --slow, fewer otherwise.
"""

import csv
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image

from stages.config.experiment import Experiment
from stages.config.load import load_configs
from stages.config.yaml_files import read_options, validate
from stages.config.yaml_text import parse_yaml
from stages.data.columns import COLUMNS
from stages.data.entries import Finding
from stages.data.pixels import object_pixels
from stages.data.rows import Row, own_expression_fault, read_rows
from stages.data.segmentation import segmentation_mask
from stages.runtime.errors import InputError
from stages.runtime.foreign_errors import printable
from stages.storage.masks import encode
from stages.storage.run_lengths import read_counts, require_run_lengths
from tests.conftest import ROOT

# How many are drawn is set in conftest.py.
drawn = settings(
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)

TEXT = st.text(st.characters(codec="utf-8"), max_size=12)
WORDS = st.text(st.sampled_from('the red cup, left; "of" 7|\t\''), min_size=1, max_size=20)
HEADERS = st.permutations([*COLUMNS, "Image", " expression ", "spilt", ""]).flatmap(
    lambda names: st.integers(2, 6).map(lambda count: list(names[:count]))
)


@drawn
@given(
    names=HEADERS | st.just(["image", "expression"]) | st.just(list(COLUMNS)),
    rows=st.lists(st.lists(WORDS | TEXT, min_size=2, max_size=5), max_size=5),
    separator=st.sampled_from(",;\t|"),
)
def test_a_table_that_is_written_is_read_as_it_was(
    tmp_path: Path, names: list[str], rows: list[list[str]], separator: str
) -> None:
    text = io.StringIO()
    writer = csv.writer(text, delimiter=separator, lineterminator="\n")
    whole = [(row + len(names) * ["x"])[: len(names)] for row in rows]
    writer.writerows([names, *whole])
    (tmp_path / "t.csv").write_text(text.getvalue(), encoding="utf-8", newline="")
    try:
        items = list(read_rows(tmp_path / "t.csv"))
    except InputError as error:
        assert "\n" not in printable(str(error))
        plain = ["".join(name.split()).casefold() for name in names]
        is_right = sorted(set(plain)) == sorted(plain) and set(plain) <= set(COLUMNS)
        assert not (is_right and {"image", "expression"} <= set(plain))
        return
    place = [name.strip().casefold() for name in names].index("expression")
    texts = [item.expression for item in items if isinstance(item, Row)]
    usable = [row[place] for row in whole if own_expression_fault(row[place]) is None]
    # Every text is as it was, and what is not taken has a line.
    assert all(text in usable for text in texts)
    filled = [row for row in whole if any(cell.strip() for cell in row)]
    assert len(items) >= len(filled) or any(isinstance(item, Finding) for item in items)


@drawn
@given(
    content=st.binary(max_size=80) | TEXT.map(str.encode),
    name=st.sampled_from(["t.csv", "t.tsv", "t.jsonl", "t.parquet"]),
)
def test_any_bytes_for_a_table_are_rows_or_one_line(
    tmp_path: Path, content: bytes, name: str
) -> None:
    (tmp_path / name).write_bytes(b"image,expression\n" * (name == "t.csv") + content)
    try:
        assert all(isinstance(item, Row | Finding) for item in read_rows(tmp_path / name))
    except InputError as error:
        assert "\n" not in str(error)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=6,
)


@drawn
@given(
    rows=st.lists(
        st.dictionaries(st.sampled_from([*COLUMNS, "Mask", "id"]), JSON | WORDS), max_size=4
    )
)
def test_every_line_of_jsonl_is_a_row_or_a_finding(
    tmp_path: Path, rows: list[dict[str, Any]]
) -> None:
    text = "".join(json.dumps(row) + "\n" for row in rows)
    (tmp_path / "t.jsonl").write_text(text)
    items = list(read_rows(tmp_path / "t.jsonl"))
    assert len(items) == len(rows)
    for row, item in zip(rows, items, strict=True):
        if isinstance(item, Row):
            assert item.expression == row["expression"] and item.image == row["image"].strip()
            assert "id" not in row
        else:
            printable(str(item)).encode()


# Masks

SHAPE = (6, 7)
OBJECTS = arrays.arrays(bool, SHAPE)
COLORS = st.tuples(*3 * (st.integers(0, 255),)).filter(any)


def in_mode(mode: str, mask: Any, color: tuple[int, int, int], alpha: int) -> Image.Image:
    """An image of a mode that shows the object in a color on black."""
    colors = mask[:, :, None] * np.array(color, np.uint8)
    if mode == "1":
        return Image.fromarray(mask)
    if mode in ("L", "I", "I;16", "F"):
        kinds = {"L": np.uint8, "I": np.int32, "I;16": np.uint16, "F": np.float32}
        return Image.fromarray((mask * max(color)).astype(kinds[mode]))
    if mode == "P":
        image = Image.fromarray(np.where(mask, 7, 200).astype(np.uint8), mode=None)
        image = image.convert("L")
        palette = [0] * 768
        palette[21:24] = color
        image.putpalette(palette)
        return image
    if mode == "keyed P":
        image = in_mode("P", mask, color, alpha)
        image.putpalette([255] * 600 + [9, 9, 9] + [255] * 165)  # white, 200 nearly black
        image.info["transparency"] = 200
        return image
    opaque = np.where(mask, max(alpha, 1), 0).astype(np.uint8)
    if mode == "RGBA, clear around":
        return Image.fromarray(np.dstack([np.full_like(colors, 255), opaque]))
    if mode == "RGBA":
        return Image.fromarray(np.dstack([colors, np.full(SHAPE, max(alpha, 1), np.uint8)]))
    if mode == "LA":
        image = Image.new("LA", SHAPE[::-1])
        image.putdata([(int(v), 255) for v in (mask * max(color)).ravel()])
        return image
    return Image.fromarray(colors)


MODES = ["1", "L", "I", "I;16", "F", "P", "keyed P", "RGB", "RGBA", "RGBA, clear around", "LA"]


@pytest.mark.filterwarnings("ignore:.*getdata|.*putdata|.*mode.*:DeprecationWarning")
@pytest.mark.parametrize("mode", MODES)
@drawn
@given(mask=OBJECTS, color=COLORS, alpha=st.integers(0, 255), ending=st.sampled_from(["png", ""]))
def test_the_object_is_the_same_in_every_mode(
    tmp_path: Path, mode: str, mask: Any, color: tuple[int, int, int], alpha: int, ending: str
) -> None:
    image = in_mode(mode, mask, color, alpha)
    if ending and mode != "F":
        image.save(tmp_path / "m.png")
        with Image.open(tmp_path / "m.png") as opened:
            actual, note = object_pixels(opened, opened.format)
    else:
        actual, note = object_pixels(image)
    assert (actual == mask).all() and note is None


@drawn
@given(
    values=arrays.arrays(
        st.sampled_from([np.uint8, np.uint16, np.int32, np.float32]),
        arrays.array_shapes(min_dims=2, max_dims=2),
    )
)
def test_any_values_are_a_mask_or_one_line(values: Any) -> None:
    try:
        mask, _ = object_pixels(Image.fromarray(values))
    except ValueError as error:
        assert "\n" not in str(error)
        with np.errstate(invalid="ignore"):
            assert not np.isfinite(values).all() or (values < 0).any()
        return
    assert (mask == (values > 0)).all()


# Run lengths


@drawn
@given(mask=arrays.arrays(bool, arrays.array_shapes(min_dims=2, max_dims=2, max_side=40)))
def test_run_lengths_are_read_as_pycocotools_writes_them(mask: Any) -> None:
    height, width = mask.shape
    part = {"size": [height, width], "counts": encode(mask)}
    require_run_lengths(part, height, width)
    runs = read_counts(part["counts"])
    flat = np.repeat(np.arange(len(runs)) % 2 == 1, runs)
    assert (mask == flat.reshape(width, height).T).all()
    for counts in (part["counts"], runs):
        drawn = segmentation_mask({**part, "counts": counts}, height, width)
        assert (drawn == mask).all()


@drawn
@given(
    counts=st.text(st.characters(min_codepoint=40, max_codepoint=120), max_size=12)
    | st.lists(st.integers(-3, 40) | st.floats() | st.booleans(), max_size=6)
    | st.binary(max_size=6),
    size=st.lists(st.integers(-1, 6), min_size=1, max_size=3),
)
def test_run_lengths_of_any_content_fill_the_mask_or_are_refused(
    counts: Any, size: list[int]
) -> None:
    height, width = 5, 6
    part = {"size": size, "counts": counts}
    try:
        mask = segmentation_mask(part, height, width)
    except ValueError as error:
        assert "\n" not in str(error)
        return
    runs = counts if isinstance(counts, list) else read_counts(counts)
    assert sum(runs) == height * width and mask.sum() == sum(runs[1::2])


@drawn
@given(
    polygons=st.lists(
        st.lists(st.floats(-1e6, 1e6) | st.integers(-5, 50) | st.lists(st.integers(), max_size=2)),
        max_size=3,
    )
)
def test_any_polygons_are_drawn_within_the_image_or_refused(polygons: Any) -> None:
    try:
        mask = segmentation_mask(polygons, 20, 25)
    except ValueError as error:
        assert "\n" not in str(error)
        return
    assert mask.shape == (20, 25)
    assert all(abs(value) <= 75 for p in polygons if len(p) >= 6 for value in p)


# YAML

KEYS = st.sampled_from(["dataset", "stage1", "epochs", "segmentor", "model", "seed", "x", "1", "~"])
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 99) | st.floats() | st.text(max_size=6) | KEYS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=8,
)


@drawn
@given(
    text=st.text(max_size=40) | st.text(st.sampled_from("a: [{}]\n!&*<'\"-#|>%@0.1e2"), max_size=40)
)
def test_any_text_is_yaml_or_one_line(text: str) -> None:
    try:
        parse_yaml(text)
    except ValueError as error:
        assert "\n" not in str(error)


@drawn
@given(pairs=st.lists(st.tuples(KEYS, st.integers(0, 9)), min_size=1, max_size=5))
def test_a_key_that_stands_twice_is_named_with_both_lines(pairs: list[tuple[str, int]]) -> None:
    text = "".join(f"{key}: {value}\n" for key, value in pairs)
    names = [key for key, _ in pairs]
    if len(set(names)) == len(names):
        assert list(parse_yaml(text).values()) == [value for _, value in pairs]
        return
    with pytest.raises(ValueError, match="stands twice") as caught:
        parse_yaml(text)
    second = next(n for n, name in enumerate(names) if name in names[:n])
    first = names.index(names[second])
    assert str(caught.value) == (
        f"{names[second]} stands twice, lines {first + 1} and {second + 1}"
    )


@drawn
@given(
    options=st.dictionaries(KEYS, VALUES, max_size=4)
    | st.fixed_dictionaries(
        {"dataset": st.text(min_size=1)}, optional={"stage1": st.just({"epochs": 1})}
    )
)
def test_any_options_are_an_experiment_or_findings(tmp_path: Path, options: dict[str, Any]) -> None:
    text = json.dumps(options, ensure_ascii=False)
    (tmp_path / "e.yaml").write_bytes(text.encode("utf-8", "surrogatepass"))
    findings: list[str] = []
    read = read_options(tmp_path / "e.yaml", findings)
    experiment = validate("e.yaml", read, Experiment, findings) if read is not None else None
    assert (experiment is None) == bool(findings)
    assert all("\n" not in finding.split("found")[0] for finding in findings)
    if experiment is not None:
        assert experiment.dataset == options["dataset"]


def test_the_cases_of_names_and_keys_are_findings(tmp_path: Path) -> None:
    for name in ("datasets", "experiments"):
        (tmp_path / name).mkdir()
    (tmp_path / "config.yaml").write_text("demo: small\n")
    (tmp_path / "experiments/small.yaml").write_text("dataset: refshapes\n")
    (tmp_path / "datasets/refshapes.yaml").write_text("source: refshapes\n")
    twice = ROOT / "tests/cases/yaml_duplicate_key/twice.yaml"
    cases = {
        "twice.yaml": (twice.read_text(), "stage1 stands twice, lines 2 and 3"),
        "x.yml": ("dataset: refshapes\n", r"x\.yml: ends in \.yml; rename it to x\.yaml"),
        "x-y.yaml": ("dataset: refshapes\n", "'x-y': needed a word of letters"),
        "s.yaml": ("dataset: refshapes\nevaluation: {splits: [test-A]}\n", "'test-A': needed"),
        "t.yaml": ("dataset: refshapes\nevaluation: {splits: [val, val]}\n", "val stands twice"),
        "i.yaml": ("dataset: refshapes\nstage1: {learning_rate: .inf}\n", "finite"),
        "n.yaml": ("dataset: refshapes\n1: x\n", "1: needed the name of an option"),
        "d.yaml": ("dataset: 2020-13-45\n", r"d\.yaml: .*month must be in 1"),
        "deep.yaml": ("[" * 3000, "nested too deep"),
    }
    for name, (text, message) in cases.items():
        path = tmp_path / "experiments" / name
        path.write_text(text)
        with pytest.raises(InputError, match=message):
            load_configs(tmp_path)
        path.unlink()
    own = tmp_path / "datasets/own.yaml"
    own.write_text("source: table\nannotations: ~/t.csv\nimages: ~\n")
    loaded = load_configs(tmp_path).datasets["own"]
    assert loaded.annotations == Path.home() / "t.csv"
