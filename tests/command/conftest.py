"""Small models, an image and the command, as the tests of its verbs need them."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import Result
from PIL import Image
from typer.testing import CliRunner

from risflow.cli import app
from stages.config.load import load_configs
from stages.models.saved import build_segmentor, describe
from stages.storage.weights import save_weights
from tests.conftest import ROOT

Command = Callable[..., Result]
EXPERIMENTS = load_configs(ROOT / "configs").experiments


@pytest.fixture
def risflow() -> Command:
    """Runs the command in this process."""

    def run(*arguments: object) -> Result:
        return CliRunner().invoke(app, [str(argument) for argument in arguments])

    return run


def write_model(path: Path, name: str) -> Path:
    """The segmentor of an experiment as it is before its training."""
    experiment = EXPERIMENTS[name]
    torch.manual_seed(0)
    segmentor = build_segmentor(experiment.segmentor)
    about = describe(experiment.segmentor.model, experiment.segmentor)
    save_weights(path, segmentor.state_dict(), about)
    return path


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A TRIS segmentor in a file."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)  # configs name the small CLIP from here
        return write_model(tmp_path_factory.mktemp("model") / "model.safetensors", "refshapes_tris")


@pytest.fixture
def image_file(tmp_path: Path) -> Path:
    """40 x 60 pixels: a red square on gray."""
    pixels = np.full((40, 60, 3), 180, np.uint8)
    pixels[10:30, 10:30] = (200, 0, 0)
    path = tmp_path / "a photo.png"
    Image.fromarray(pixels).save(path)
    return path


@pytest.fixture(autouse=True)
def at_the_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
