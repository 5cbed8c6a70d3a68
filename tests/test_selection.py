"""Validation while a model is trained, and the epoch whose weights are kept."""

import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, cast

import pytest
import torch
import yaml
from safetensors.torch import load_file
from torch import Tensor

from stages import (
    encode_text,
    evaluate,
    make_report,
    predict,
    score,
    train_segmentor,
    train_stage1,
)
from stages.config.contents import Contents
from stages.config.load import load_configs
from stages.config.pages import find_page
from stages.config.products import Products
from stages.config.segmentors import AnySegmentor
from stages.config.selection import Validation
from stages.config.steps import Evaluation, Stage1
from stages.inference.validation import validated_samples
from stages.runtime.errors import InputError
from stages.storage.files import read_json, write_json
from stages.storage.tables import Samples, read_samples, write_samples, write_table
from tests.conftest import ROOT, few_shapes, file_hash, write_steps
from tests.test_distributed import environment

EXPERIMENTS = load_configs(ROOT / "configs").experiments
EPOCHS = 3
BEST: dict[str, Any] = {"validation": {}, "keep": "best"}
METRICS = ("mean_iou", "overall_iou", "precision_50")


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shapes")
    return few_shapes(folder, train_images=8, val_images=5, test_images=1)


@pytest.fixture(autouse=True)
def at_the_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)  # configs name the small CLIP from here


def options(**changes: Any) -> AnySegmentor:
    """A small CRIS at a constant rate: an epoch is the same whatever the number of epochs."""
    small = EXPERIMENTS["refshapes_cris"].segmentor.model_dump(exclude_unset=True)
    common = {
        "schedule": "constant",
        "batch_size": 8,
        "learning_rate": 3e-3,
        "epochs": EPOCHS,
        "seed": 1,
    }
    return type(EXPERIMENTS["refshapes_cris"].segmentor).model_validate(
        {**small, **common, "epochs": EPOCHS, **changes}
    )


def scored(samples: Path, model: Path, batch_size: int = 64) -> dict[str, float]:
    """The scores of a model on val, as the workflow makes them."""
    folder = model.parent
    predictions, rows, metrics = folder / "p.parquet", folder / "r.parquet", folder / "m.json"
    predict.run(samples, predictions, "val", Evaluation(batch_size=batch_size), model)
    evaluate.run(samples, "val", "segmentor", rows, [predictions])
    score.run(samples, "shapes", "val", "segmentor", [rows], metrics, folder / "s.parquet")
    scores = read_json(metrics)["scores"]
    return {name: scores[name] for name in METRICS}


def validation_of(model: Path) -> dict[str, Any]:
    result: dict[str, Any] = read_json(model.with_name("run.json"))["validation"]
    return result


def scores_of(row: dict[str, Any]) -> dict[str, float]:
    return {name: row[name] for name in METRICS}


@pytest.fixture(scope="module")
def selected(samples: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model of the best epoch by one process."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        model = tmp_path_factory.mktemp("selected") / "model.safetensors"
        train_segmentor.run(samples, model, options(**BEST))
    return model


@pytest.mark.long
def test_the_kept_epoch_is_the_one_that_scores_highest_when_all_are_scored_alone(
    samples: Path, selected: Path, tmp_path: Path
) -> None:
    alone = []  # each epoch as the last one of a training that validates nothing
    for epochs in range(1, EPOCHS + 1):
        model = tmp_path / str(epochs) / "model.safetensors"
        train_segmentor.run(samples, model, options(epochs=epochs))
        alone.append((scored(samples, model), load_file(model)))
    validation = validation_of(selected)
    assert [scores_of(row) for row in validation["epochs"]] == [scores for scores, _ in alone]
    values = [scores["mean_iou"] for scores, _ in alone]
    best = values.index(max(values))
    assert validation["best_epoch"] == validation["kept_epoch"] == best + 1
    assert validation["best_value"] == values[best] > 0
    assert_equal(load_file(selected), alone[best][1])


def assert_equal(weights: dict[str, Tensor], others: dict[str, Tensor]) -> None:
    assert weights.keys() == others.keys()
    assert all(torch.equal(value, others[name]) for name, value in weights.items())


@pytest.mark.slow
def test_two_processes_keep_the_epoch_that_one_keeps(samples: Path, tmp_path: Path) -> None:
    """Stage 1, by SGD: Adam makes steps of whole size out of rounding, in float32."""
    experiment, features = EXPERIMENTS["refshapes_tris"], tmp_path / "text.safetensors"
    encode_text.run(samples, features, experiment.judge)
    rates = {"learning_rate": 1e-3, "backbone_learning_rate": 1e-3, "optimizer": "sgd"}
    changes = {**BEST, **rates, "batch_size": 8, "schedule": "constant", "epochs": 2}
    changes["validation"] = {"batch_size": 20}  # several batches, of several images each
    config = Stage1.model_validate({**experiment.stage1.model_dump(exclude_unset=True), **changes})
    alone, both = (tmp_path / name / "model.safetensors" for name in ("alone", "both"))
    train_stage1.run(samples, features, alone, config, experiment.judge)
    arguments = ["--samples", str(samples), "--features", str(features), "--model", str(both)]
    arguments += ["--config", config.model_dump_json()]
    arguments += ["--judge", experiment.judge.model_dump_json()]
    done = subprocess.run(
        [sys.executable, "-m", "stages.runtime.launch", "2", "stages.train_stage1", *arguments],
        cwd=ROOT,
        env=environment(tmp_path),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    shared, own = validation_of(both), validation_of(alone)
    kept = next(row for row in shared["epochs"] if row["epoch"] == shared["kept_epoch"])
    assert scores_of(kept) == scored(samples, both, 20)  # as one process scores the same weights
    assert shared["kept_epoch"] == own["kept_epoch"]
    for row, other in zip(shared["epochs"], own["epochs"], strict=True):
        assert scores_of(row) == pytest.approx(scores_of(other), abs=1e-3)
    weights, others = load_file(both), load_file(alone)
    for name, value in weights.items():
        assert torch.allclose(value, others[name], rtol=0, atol=1e-3), name


@pytest.mark.slow
def test_a_killed_training_keeps_the_same_bytes(
    samples: Path, selected: Path, tmp_path: Path
) -> None:
    model, config = tmp_path / "model.safetensors", options(**BEST)
    arguments = ["--samples", str(samples), "--model", str(model)]
    arguments += ["--config", config.model_dump_json()]
    with subprocess.Popen(
        [sys.executable, "-m", "stages.train_segmentor", *arguments], cwd=ROOT
    ) as running:
        state = model.with_suffix(".state.pt")  # written after each validation
        deadline = time.monotonic() + 120
        while not state.exists() and time.monotonic() < deadline:
            time.sleep(0.01)
        running.kill()
    assert state.exists() and not model.exists()
    train_segmentor.run(samples, model, config)
    assert file_hash(model) == file_hash(selected)


def test_validation_takes_a_part_of_a_split(samples: Path) -> None:
    everything = read_samples(samples)
    both = Validation(split=("val", "testA"), limit=3, first_expressions=True)
    part = validated_samples(everything, both)
    assert len(part.images) == 3
    assert set(part.objects.split) == {"val", "testA"}
    assert part.expressions.object.tolist() == part.objects.object.tolist()
    first = everything.expressions.drop_duplicates("object").set_index("object").expression
    assert part.expressions.expression.tolist() == first[part.objects.object].tolist()
    assert len(validated_samples(everything, Validation()).images) == 5


def test_a_split_that_cannot_be_scored_ends_the_step_before_its_training(
    samples: Path, tmp_path: Path
) -> None:
    whole = read_samples(samples)
    unmasked = Samples(whole.images, whole.objects.assign(mask=None), whole.expressions)
    write_samples(tmp_path / "unmasked", unmasked)
    masks = tmp_path / "masks.parquet"
    rows = whole.objects.merge(whole.images, on="image").assign(score=1.0)
    write_table(masks, "masks", rows)
    model = tmp_path / "model.safetensors"
    with pytest.raises(InputError, match="validation: split val has no masks; needed one that"):
        train_segmentor.run(tmp_path / "unmasked", model, options(**BEST), [masks])
    with pytest.raises(InputError, match="no object is in split 'vall'; splits of this data set"):
        train_segmentor.run(samples, model, options(validation={"split": "vall"}))
    assert list(tmp_path.glob("model*")) == []


def test_pages_of_text_only_trainings_say_that_masks_chose_the_epoch(tmp_path: Path) -> None:
    configs = tmp_path / "configs"
    shutil.copytree(ROOT / "configs", configs)
    selected = {"validation": {"split": "val"}, "keep": "best"}
    for name, content in {
        "chosen": {"base": "refshapes_tris", "stage1": selected, "segmentor": selected},
        "by_masks": {"base": "refshapes_cris", "segmentor": selected},
        "watched": {"base": "refshapes_tris", "stage1": {"validation": {"split": "val"}}},
        "second": {"base": "refshapes_rela_pseudo", "supervision": "pseudo:chosen"},
    }.items():
        (configs / f"experiments/{name}.yaml").write_text(yaml.safe_dump(content))
    products = Products(load_configs(configs), tmp_path, Contents(tmp_path / "contents.json"))

    def shown(name: str) -> str | None:
        return cast(str | None, find_page(products, name).product.options.get("selection"))

    assert shown("chosen") == (
        "model selection used the masks of val, as the official code does: stage 1 and the"
        " segmentor"
    )
    assert shown("second") == "model selection used the masks of val: stage 1"
    assert shown("by_masks") is shown("watched") is shown("refshapes_tris") is None
    assert "chosen: model selection used" in str(find_page(products, "refshapes").product.options)


def test_the_page_and_the_table_show_the_selection(samples: Path, tmp_path: Path) -> None:
    predictions, rows = tmp_path / "p.parquet", tmp_path / "r.parquet"
    metrics, results, losses = (tmp_path / n for n in ("m.json", "s.parquet", "losses.json"))
    part = read_samples(samples).split("val")
    table = part.expressions.merge(part.objects, on="object").merge(part.images, on="image")
    absent = {"row": 0, "column": 0, "score": 1.0, "no_target": False, "input_mask": None}
    write_table(predictions, "predictions", table.assign(**absent))
    evaluate.run(samples, "val", "segmentor", rows, [predictions])
    score.run(samples, "shapes", "val", "segmentor", [rows], metrics, results)
    scores = dict.fromkeys(METRICS, 0.5)
    row = {"step": 1, "epoch": 1, "split": "val", **scores, "kept": True}
    write_json(losses, [{"step": 1, "epoch": 1, "learning_rate": 0.1, "loss": 1.0}, row])
    line = "model selection used the masks of val, as the official code does: the segmentor"
    options = {"note": "", "selection": line, "rows": [["it", "segmentor", "val"]]}
    trainings = {"segmentor": "work/segmentor/it"}
    steps = write_steps(tmp_path, "it", [], options=options, trainings=trainings)
    page, text = tmp_path / "page.html", tmp_path / "scores.txt"
    make_report.run(
        *(steps, EXPERIMENTS["refshapes_tris"], samples, [metrics], [results], [losses]),
        *([predictions], page, text),
    )
    assert f"\n{line}\n" in text.read_text()
    assert f"<b>{line}</b>" in page.read_text()
    assert "to choose the epoch of a training" in page.read_text()
    assert "kept: epoch 1 (mIoU 50.0 %)" in page.read_text()
