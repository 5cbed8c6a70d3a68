"""Trainings that start from given weights, and those that are continued with more epochs."""

import logging
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file

from stages import train_segmentor
from stages.config.contents import Contents
from stages.config.load import load_configs
from stages.config.product import Product
from stages.config.products import Products
from stages.runtime.errors import InputError
from tests.conftest import ROOT, few_shapes
from tests.test_selection import assert_equal, options

SGD = {"optimizer": "sgd", "learning_rate": 1e-3, "backbone_learning_rate": 1e-3}


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shapes")
    return few_shapes(folder, train_images=4, val_images=2, test_images=1)


@pytest.fixture(scope="module")
def short(samples: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model after one epoch of SGD at a constant rate."""
    model = tmp_path_factory.mktemp("short") / "model.safetensors"
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        train_segmentor.run(samples, model, options(epochs=1, **SGD))
    return model


@pytest.fixture(autouse=True)
def at_the_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)  # configs name the small CLIP from here


def test_a_continued_training_equals_one_of_as_many_epochs(
    samples: Path, short: Path, tmp_path: Path
) -> None:
    """By SGD without momentum, whose optimizer remembers nothing; from our file and an official."""
    official = tmp_path / "official.pth"
    state = {f"module.{name}": value for name, value in load_file(short).items()}
    torch.save({"state_dict": state, "epoch": 1}, official)
    whole = tmp_path / "whole/model.safetensors"
    train_segmentor.run(samples, whole, options(epochs=2, **SGD))
    for start in (short, official):
        model = tmp_path / start.stem / "model.safetensors"
        config = options(epochs=2, initialize=str(start), first_epoch=1, **SGD)
        train_segmentor.run(samples, model, config)
        assert_equal(load_file(model), load_file(whole))


def test_a_model_of_another_architecture_is_told_with_the_first_weights_that_differ(
    samples: Path, short: Path, tmp_path: Path
) -> None:
    model = tmp_path / "model.safetensors"
    wide = options(epochs=2, initialize=str(short), channels=128)
    with pytest.raises(InputError) as told:
        train_segmentor.run(samples, model, wide)
    assert re.fullmatch(
        rf"{short} \(cris\): \S+ is \([\d, ]+\) where \([\d, ]+\) is needed \(and \d+ more\);"
        r" needed the weights of this CrisSegmentor",
        str(told.value),
    )
    other = load_configs(ROOT / "configs").experiments["refshapes_etris"].segmentor
    with pytest.raises(InputError, match=r"\(cris\): \S+ is missing .* this EtrisSegmentor"):
        train_segmentor.run(samples, model, other.model_copy(update={"initialize": str(short)}))
    with pytest.raises(InputError, match="initialize: refshapes_cris is the name of an experim"):
        train_segmentor.run(samples, model, options(initialize="refshapes_cris"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"first_epoch": 2}, "was trained for 1 epochs: needed 1"),
        (
            {"first_epoch": 1, "schedule": "poly"},
            "schedule: poly from epoch 1 on continues nothing; .* was trained by constant",
        ),
    ],
)
def test_raised_epochs_that_continue_nothing_are_refused(
    samples: Path, short: Path, tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    config = options(epochs=4, initialize=str(short), **{**SGD, **changes})
    with pytest.raises(InputError, match=message):
        train_segmentor.run(samples, tmp_path / "model.safetensors", config)


def project(folder: Path, **experiments: dict[str, Any]) -> Path:
    """A copy of configs/ with more experiments."""
    configs = folder / "configs"
    shutil.copytree(ROOT / "configs", configs)
    for name, content in experiments.items():
        (configs / f"experiments/{name}.yaml").write_text(yaml.safe_dump(content))
    return configs


def products(configs: Path) -> Products:
    return Products(load_configs(configs), configs / "none", Contents(configs / "contents.json"))


def cris(**segmentor: Any) -> dict[str, Any]:
    return {"base": "refshapes_cris", "segmentor": segmentor}


def test_a_training_from_an_experiment_is_made_after_it_and_known_by_its_digest(
    tmp_path: Path,
) -> None:
    weights = tmp_path / "weights.pth"
    weights.write_bytes(b"first")
    made = products(
        project(
            tmp_path,
            longer=cris(initialize="refshapes_cris", first_epoch=14, epochs=20),
            again=cris(initialize="longer"),
            same=cris(initialize="refshapes_cris_alias"),
            refshapes_cris_alias={"base": "refshapes_cris"},
            other=cris(initialize="refshapes_cris"),
            filed=cris(initialize=str(weights)),
            stage1_again={"base": "refshapes_tris", "stage1": {"initialize": "refshapes_tris"}},
        )
    )

    def segmentor(name: str) -> Product:
        return made.of_experiment(name)["segmentor"]

    assert segmentor("refshapes_cris") in segmentor("longer").sources
    assert segmentor("longer") in segmentor("again").sources
    assert segmentor("same").digest == segmentor("other").digest
    assert segmentor("other").digest != segmentor("refshapes_cris").digest
    stage1 = made.of_experiment("stage1_again")["stage1"]
    assert made.of_experiment("refshapes_tris")["stage1"] in stage1.sources
    first = segmentor("filed")
    assert str(weights) in first.files and len(first.sources) == 1
    weights.write_bytes(b"second")
    assert products(tmp_path / "configs").of_experiment("filed")["segmentor"] != first


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"initialize": "refshapes_criss"}, r"initialize: .* did you mean refshapes_cris\?"),
        ({"initialize": "refshapes_etris"}, "refshapes_etris has a model etris; needed cris"),
        ({"initialize": "new"}, "initialize: new -> new never ends"),
        ({"first_epoch": 2}, "first_epoch: 2 without initialize"),
        ({"initialize": "a.pth", "first_epoch": 14}, "first_epoch: 14, of epochs 14; needed fewer"),
        (
            {"initialize": "refshapes_cris", "first_epoch": 7},
            "refshapes_cris was trained for 14 epochs: needed 14",
        ),
        (
            {
                "initialize": "refshapes_cris",
                "first_epoch": 14,
                "epochs": 20,
                "schedule": "cosine",
            },
            "schedule: cosine from epoch 14 on continues nothing; refshapes_cris was trained by"
            " poly: needed that, or first_epoch: 0",
        ),
        ({"keep": "best"}, "keep: best without validation"),
        ({"early_stopping": 2}, "early_stopping: 2 without validation"),
        ({"validation": {"split": "vall"}}, r"split: 'vall' is not known; did you mean val\?"),
        ({"validation": {"metric": "iou"}}, "validation.metric: Input should be 'mean_iou'"),
    ],
)
def test_what_cannot_be_trained_is_told_when_the_workflow_is_parsed(
    tmp_path: Path, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError) as told:
        load_configs(project(tmp_path, new=cris(**options)))
    line = str(told.value)
    assert re.search(rf"new\.yaml: segmentor.*{message}", line), line
    assert "\n" not in line


def test_a_continued_training_says_what_its_rate_becomes(
    samples: Path, short: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    config = options(epochs=2, initialize=str(short), first_epoch=1, **SGD)
    train_segmentor.run(samples, tmp_path / "model.safetensors", config)
    assert f"starts from the weights of {short}" in caplog.text
    assert "learning rate follows the constant schedule of 2 epochs from epoch 1 on" in caplog.text
