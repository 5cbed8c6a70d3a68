"""What tensorboard shows of a training: the same few expressions, as the model finds them then."""

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from safetensors.torch import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import Tensor, nn

from stages import train_segmentor
from stages.config.load import load_configs
from stages.data.wordpiece import load_model_tokenizer
from stages.inference.panel import CAPTION, GAP, PAIR, Panel, validation_panel
from stages.models.saved import load_model
from stages.reporting.overlay import OUTLINE, SIDE
from stages.storage.files import read_json
from stages.storage.tables import Samples, read_samples
from tests.conftest import ROOT, few_shapes

EXPERIMENT = load_configs(ROOT / "configs").experiments["refshapes_cris"]
CONFIG = EXPERIMENT.segmentor.model_copy(update={"epochs": 4, "batch_size": 4})
TOKENIZER = load_model_tokenizer(CONFIG)


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return few_shapes(tmp_path_factory.mktemp("panel"), train_images=6, val_images=3, test_images=1)


@pytest.fixture(autouse=True)
def at_the_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)  # configs name the small CLIP from here


def drawn(samples: Samples) -> Panel | None:
    return validation_panel(samples, TOKENIZER, CONFIG.image_size, "letterbox")


def pixels(encoded: bytes) -> NDArray[np.float64]:
    return np.asarray(Image.open(io.BytesIO(encoded)), np.float64)


def test_a_training_shows_the_validation_and_learns_the_same(
    samples: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tmp_path / "model.safetensors"
    train_segmentor.run(samples, model, CONFIG)
    board = EventAccumulator(str(tmp_path / "tensorboard"), size_guidance={"images": 0})
    board.Reload()
    shown = board.Images("val")
    assert 1 < len(shown) <= 10
    assert shown[-1].step == read_json(tmp_path / "losses.json")[-1]["step"]
    panel = drawn(read_samples(samples))
    assert panel is not None
    again = panel(load_model(model).model)
    assert np.abs(pixels(shown[-1].encoded_image_string) - again).mean() < 0.1  # of 255
    assert np.abs(pixels(shown[0].encoded_image_string) - again).mean() > 0.5

    monkeypatch.setattr(train_segmentor, "validation_panel", lambda *_: None)
    train_segmentor.run(samples, tmp_path / "blind/model.safetensors", CONFIG)
    blind = load_file(tmp_path / "blind/model.safetensors")
    assert all(torch.equal(value, blind[name]) for name, value in load_file(model).items())


class Center(nn.Module):
    """Says that every target is the middle quarter; in training it would say nothing."""

    background_value = 0.0

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(()))
        self.frozen = nn.BatchNorm2d(1).eval()

    def predict(self, batch: dict[str, Tensor]) -> Tensor:
        size = batch["images"].shape[-1]
        maps = torch.zeros(len(batch["tokens"]), size, size)
        if not self.training:
            maps[:, size // 4 : -size // 4, size // 4 : -size // 4] = self.weight
        return maps


def test_a_panel_shows_map_and_mask_and_leaves_modes_alone(samples: Path) -> None:
    everything = read_samples(samples)
    panel = validation_panel(everything, TOKENIZER, 64, "stretch")
    assert panel is not None
    model = Center().train()
    model.frozen.eval()
    drawn_panel = panel(model)
    assert model.training and not model.frozen.training and model.weight.requires_grad
    count = len(everything.split("val").images)
    assert len(panel.shown) == count == 3
    height, width = 2 * (CAPTION + SIDE + GAP), 2 * (PAIR + GAP)
    assert drawn_panel.shape == (height, width, 3)
    image = panel.shown[0].image
    scale = SIDE / max(image.size)
    middle = CAPTION + round(image.height * scale / 2), PAIR - SIDE + round(image.width * scale / 2)
    red, _, blue = drawn_panel[middle[0], middle[1]].astype(int)
    assert blue > red + 30, "the mask, in blue"
    red, _, blue = drawn_panel[middle[0], middle[1] - (PAIR - SIDE)].astype(int)
    assert red > blue + 30, "the response, in yellow"
    corner = drawn_panel[CAPTION + 4, PAIR - SIDE + 4].astype(int)
    assert np.ptp(corner) < 12, "outside of it, gray"


def test_masks_that_nobody_knows_are_not_outlined(samples: Path) -> None:
    everything = read_samples(samples)
    blank = replace(everything, objects=everything.objects.assign(mask=None))
    with_ground_truth, without = drawn(everything), drawn(blank)
    assert with_ground_truth is not None and without is not None
    orange = np.all(with_ground_truth(Center()) == OUTLINE, axis=2)
    assert orange.any() and not np.all(without(Center()) == OUTLINE, axis=2).any()


def test_a_data_set_without_validation_has_no_panel(samples: Path) -> None:
    assert drawn(read_samples(samples).split("train")) is None
