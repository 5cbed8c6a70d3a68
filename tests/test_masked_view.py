"""A masked view: what is hidden, what is learned from and measured, and how a training goes on."""

import math
import signal
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from stages.config.section import Execution
from stages.config.segmentors import CrisOptions, TrisOptions
from stages.config.steps import MaskedView, Stage1
from stages.data.text import WordTokenizer
from stages.models.aided import AidedSegmentor
from stages.models.masked_view import Hiding, hide_words, measuring_nothing
from stages.models.tris import Stage1Trainer, TrisSegmentor, TrisStage1
from stages.train_segmentor import trainer_of
from stages.training.engine import fit
from stages.training.interruption import Interrupted
from tests.conftest import file_hash
from tests.small_clip import small_clip
from tests.test_tris import batch_of, stage1_batch
from tests.training_case import Scenes, build

START, END, UNKNOWN = 1, 9, 8
WORDS = WordTokenizer(["red"], context_length=6)
TOKENS = torch.tensor([[START, 2, 3, 4, END, 0], [START, 5, END, 0, 0, 0]]).repeat(4000, 1)


class Mean(nn.Module):
    """Gives the mean of an image as logits; its loss is the squared difference to its mask."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(3)

    def learn(self, batch: dict[str, Tensor]) -> tuple[dict[str, Tensor], Tensor]:
        self.norm(batch["images"])
        found = batch["images"].mean(dim=1)  # (I, S, S), an expression an image
        loss = ((found - batch["masks"]) ** 2).mean()
        return {"loss": loss, "square": loss}, found


def batch() -> dict[str, Tensor]:
    return {
        "images": torch.full((2, 3, 64, 64), 0.5),
        "tokens": TOKENS[:2],
        "masks": torch.ones(2, 64, 64),
        "of_image": torch.tensor([4, 4]),
        "of_object": torch.tensor([1, 2]),
    }


def aided(**options: object) -> AidedSegmentor:
    config = CrisOptions.model_validate(options)
    return AidedSegmentor(Mean(), config, UNKNOWN)


def test_what_is_hidden_is_learned_from_the_whole() -> None:
    model = aided(masked_view={"weight": 0.25, "pixels": 1.0, "patch": 32})
    assert model.hiding is not None
    model.hiding.color.data.fill_(0.2)
    named = model(batch())
    whole = 1 / (1 + math.exp(-0.5))  # the probability that it predicts
    assert named["square"].item() == pytest.approx(0.25)  # (0.5 - 1)^2, of the masks
    assert named["masked_view"].item() == pytest.approx((0.2 - whole) ** 2)
    assert named["loss"].item() == pytest.approx(0.75 * 0.25 + 0.25 * (0.2 - whole) ** 2)
    named["loss"].backward()
    assert model.hiding.color.grad is not None
    assert model.hiding.color.grad.sum().item() == pytest.approx(0.25 * 2 * (0.2 - whole))


def test_contrast_is_added_with_its_weight() -> None:
    named = aided(contrast=0.5)(batch())
    assert named["contrast"].item() == 1  # the same map for two objects
    assert named["loss"].item() == pytest.approx(0.25 + 0.5)


def test_patches_are_hidden_as_a_whole() -> None:
    hidden = Hiding(MaskedView(weight=0.5, pixels=0.5, patch=16), UNKNOWN)
    images = torch.ones(50, 3, 40, 40)  # the last patches are cut
    seen = hidden.hide_patches(images)
    corners = seen[:, 0, ::16, ::16]
    assert torch.equal(seen[:, :, :16, :16].amax(dim=(1, 2, 3)), corners[:, 0, 0])
    assert torch.equal(seen[:, :, 32:, 32:].amin(dim=(1, 2, 3)), corners[:, 2, 2])
    assert corners.unique().tolist() == [0, 1]
    assert corners.mean().item() == pytest.approx(0.5, abs=0.1)


def test_words_are_hidden_and_nothing_else() -> None:
    torch.manual_seed(0)
    hidden = hide_words(TOKENS, 0.5, UNKNOWN)
    is_word = (TOKENS != 0) & (TOKENS != START) & (TOKENS != END)
    assert torch.equal(hidden[~is_word], TOKENS[~is_word])
    assert set(hidden[is_word].tolist()) == {2, 3, 4, 5, UNKNOWN}
    assert (hidden == UNKNOWN).sum() / is_word.sum() == pytest.approx(0.5 * 0.8, abs=0.01)
    # Another word: one of four, of which the same one is three or one of them as often.
    changed = (hidden != TOKENS) & (hidden != UNKNOWN)
    assert changed.sum() / is_word.sum() == pytest.approx(0.5 * 0.1 * 0.75, abs=0.01)
    assert torch.equal(hide_words(TOKENS, 0.0, UNKNOWN), TOKENS)


def test_norms_measure_whole_images_alone() -> None:
    model = Mean().train()
    whole = batch()["images"] + torch.randn(2, 3, 64, 64)
    with measuring_nothing(model):
        model.norm(whole)
    assert model.norm.running_mean is not None
    assert not model.norm.running_mean.any()
    model.norm(whole)
    torch.testing.assert_close(model.norm.running_mean, 0.1 * whole.mean(dim=(0, 2, 3)))


@pytest.mark.parametrize("aid", [{"masked_view": {"weight": 0.5, "patch": 16}}, {"contrast": 0.01}])
def test_the_options_of_a_segmentor_give_it_aids(aid: dict[str, object]) -> None:
    config = TrisOptions.model_validate({"image_size": 64, "decoder": 8, **aid})
    training = trainer_of(TrisSegmentor(config, small_clip(16)), WORDS)
    assert isinstance(training, AidedSegmentor)
    assert training.kept() is training.model
    ids = {"of_image": torch.tensor([0, 1, 0]), "of_object": torch.tensor([0, 1, 2])}
    named = training.train()(batch_of() | ids)
    named["loss"].backward()
    assert named.keys() >= aid.keys()
    learned = [p for group in training.parameter_groups(config) for p in group["params"]]
    if training.hiding is not None:
        assert training.hiding.unknown == WORDS.unknown
        assert training.hiding.color.grad is not None
        assert any(parameter is training.hiding.color for parameter in learned)


def test_stage1_learns_from_a_masked_view_and_from_contrast() -> None:
    options = {"hidden": 20, "image_size": 64, "negatives": 2, "contrast": 0.5}
    config = Stage1.model_validate({**options, "masked_view": {"weight": 0.25, "patch": 16}})
    judge, texts, model = small_clip(seed=1), torch.randn(7, 24), small_clip(8)
    training = Stage1Trainer(config, TrisStage1(config, model), judge, texts, UNKNOWN).train()
    ids = {"of_image": torch.tensor([0, 0, 1]), "of_object": torch.tensor([0, 1, 2])}
    named = training(stage1_batch() | ids)
    published = (
        config.weight_foreground * named["foreground"]
        + config.weight_classification * named["classification"]
        + config.weight_negatives * named["negatives"]
    )
    own = published + 0.5 * named["contrast"]
    torch.testing.assert_close(named["loss"], 0.75 * own + 0.25 * named["masked_view"])
    named["loss"].backward()
    assert training.hiding is not None and training.hiding.color.grad is not None
    assert training.kept() is training.model
    learned = [p for group in training.parameter_groups(config) for p in group["params"]]
    assert any(parameter is training.hiding.color for parameter in learned)


class EndedScenes(Scenes):
    """Scenes that end the training in a step, if there is one to be ended."""

    def __init__(self, last_step: int | None) -> None:
        super().__init__()
        self.steps_left = last_step

    def collate(self, items: list[dict[str, Tensor]]) -> dict[str, Tensor]:
        if self.steps_left is not None:
            self.steps_left -= 1
            if self.steps_left < 0:
                signal.raise_signal(signal.SIGTERM)
        exact = super().collate(items)
        return {k: v.float() if v.is_floating_point() else v for k, v in exact.items()}


@pytest.mark.parametrize("name", ["stage1_aided", "cris_aided"])
def test_an_ended_training_with_aids_goes_on_to_the_same_weights(name: str, tmp_path: Path) -> None:
    def train(folder: str, last_step: int | None = None) -> Path:
        model, config = build(name)
        hiding = model.hiding
        assert isinstance(hiding, Hiding)
        hiding.options = MaskedView(weight=0.5, pixels=0.5, words=0.5, patch=16)
        output = tmp_path / folder / "model.safetensors"
        fit(
            model.float(),
            EndedScenes(last_step),
            config.model_copy(update={"epochs": 2}),
            execution=Execution(save_every=1000),
            output=output,
            fingerprint=name,
            about={},
        )
        return output

    unbroken = train("unbroken")
    with pytest.raises(Interrupted, match="saved at step"):
        train("broken", last_step=3)
    assert file_hash(train("broken")) == file_hash(unbroken)
