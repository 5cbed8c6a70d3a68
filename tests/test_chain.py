"""Hours of whole chains by arithmetic, from measurements of their parts."""

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks.chain import CHAINS, Part, chain, read, table, total
from benchmarks.throughput import TRAININGS
from stages.config.load import load_configs
from tests.conftest import ROOT

CONFIGS = load_configs(ROOT / "configs")
ABOUT = {"device": "GPU", "torch": "2.11", "cores": 4}


def write(path: Path, **content: Any) -> Path:
    path.write_text(json.dumps(ABOUT | content))
    return path


def parts_of(name: str, training: str, *files: Path) -> dict[str, Part]:
    return {part.step: part for part in chain(name, training, CONFIGS, read(files))}


def test_hours_are_items_by_rates_and_objects_by_milliseconds(tmp_path: Path) -> None:
    """RefCOCO: 42,404 objects to train on; 3,811, 1,975 and 1,810 are evaluated."""
    rows = [
        {"training": name, "experiment": TRAININGS[name][0], "items_per_second": 200.0}
        for name in ("stage1", "affinity", "tris")
    ]
    rows[0]["with_loading"] = 100.0
    passes = {"make_labels": {"milliseconds": 10, "on": "device"}}
    passes |= {"evaluate": {"milliseconds": 1, "on": "core"}}
    files = [write(tmp_path / "a.json", trainings=rows), write(tmp_path / "b.json", passes=passes)]
    parts = parts_of("tris_r50_refcoco", "tris", *files)
    assert parts["train_stage1"].hours == pytest.approx(15 * 42_404 / 100 / 3600)
    assert parts["train_segmentor"].hours == pytest.approx(15 * 42_404 / 200 / 3600)
    assert parts["train_segmentor"].note == "without loading"
    assert parts["train_affinity"].hours == pytest.approx(3 * 42_404 / 200 / 3600)
    assert parts["make_labels"].hours == pytest.approx(42_404 * 0.010 / 3600)
    # Of each evaluated split two baselines, zero-shot CLIP, stage 1, maps, pseudo masks and the
    # segmentor; of train maps, labels and pseudo masks.
    rows_scored = 7 * (3_811 + 1_975 + 1_810) + 3 * 42_404
    assert parts["evaluate"].amount == f"{rows_scored:,} objects"
    assert parts["evaluate"].hours == pytest.approx(rows_scored * 0.001 / 3600 / 4)


def test_what_was_not_measured_is_named_and_not_in_the_sum(tmp_path: Path) -> None:
    rows = [{"training": "cris", "experiment": "refshapes_cris", "items_per_second": 9.0}]
    file = write(tmp_path / "a.json", trainings=rows)
    parts = parts_of("cris_r50_refcoco", "cris", file)
    assert parts["train_segmentor"].note == "training cris was measured as refshapes_cris"
    assert parts["predict cris"].note == "predict cris was not measured"
    # 50 validations of one expression of each of the 3,811 objects, of three expressions each.
    assert parts["validation of cris"].amount == f"{round(50 * 3_811 / 3):,} objects"
    assert total(parts.values()) == 0
    shown = table({"RefCOCO": {"cris_r50_refcoco": list(parts.values())}})
    assert shown.endswith(f"without {len(parts)} of {len(parts)} parts")


def test_sums_of_the_stored_measurement_are_of_every_data_set() -> None:
    measured = read([ROOT / "benchmarks" / "measured" / "h200.json"])
    assert measured.cores == 16
    for experiments in CHAINS.values():
        for name, training in experiments.items():
            parts = {part.step: part for part in chain(name, training, CONFIGS, measured)}
            assert parts["train_segmentor"].hours, name
    generalized = chain("rela_swinb_grefcoco", "rela_swinb", CONFIGS, measured)
    hours = {part.step: part.hours for part in generalized}
    assert hours["train_segmentor"] == pytest.approx(150_000 * 48 / 57 / 3600)
    assert hours["predict rela_swinb"] is None
