"""The averaged teacher of TRIS stage 2: what it follows, what it teaches, how it is resumed."""

import signal
from pathlib import Path

import pytest
import torch
from torch import nn

from stages.config.section import Execution
from stages.config.segmentors import TrisOptions
from stages.data.text import WordTokenizer
from stages.models.teacher import Teacher
from stages.models.tris import TaughtTris, TrisSegmentor
from stages.runtime.errors import Interrupted
from stages.train_segmentor import trainer_of
from stages.training.engine import fit
from tests.conftest import file_hash
from tests.small_clip import small_clip
from tests.test_tris import batch_of
from tests.training_case import SIZE, Scenes

WORDS = WordTokenizer(["red"], context_length=6)
CONFIG = TrisOptions(
    image_size=SIZE, consistency=1.0, epochs=2, batch_size=2, precision="float32", decoder=8
)
# EMA of ema-pytorch 0.2.3 with its defaults, after steps (from 0) in which a weight grew by 1.
FOLLOWED = {
    **{0: 1.0, 9: 1.0, 10: 11.0, 99: 91.0, 100: 101.0, 109: 101.0, 110: 111.0, 119: 111.0},
    **{120: 112.31377410888672, 129: 112.31377410888672, 130: 114.20733642578125},
    **{140: 116.46067810058594, 150: 118.97218322753906, 159: 118.97218322753906},
}


def test_a_teacher_follows_as_the_official_average_does() -> None:
    model = nn.Linear(1, 1, bias=False)
    teacher = Teacher(model)
    followed = []
    for step in range(160):
        nn.init.constant_(model.weight, step + 1)
        teacher.update(model)
        followed.append(teacher.model.weight.item())
    assert {step: followed[step] for step in FOLLOWED} == pytest.approx(FOLLOWED, rel=1e-6)
    assert not teacher.model.weight.requires_grad


def taught(config: TrisOptions = CONFIG) -> TaughtTris:
    torch.manual_seed(0)
    return TaughtTris(TrisSegmentor(config, small_clip(16)))


def test_a_teacher_adds_its_loss_and_has_no_gradient() -> None:
    training = taught(CONFIG.model_copy(update={"consistency": 0.5})).train()
    named = training(batch_of())
    outputs = sum(named[f"output{number}"] for number in (1, 2, 3, 4))
    torch.testing.assert_close(named["loss"], outputs + 0.5 * named["consistency"])
    assert named["consistency"] > 0  # CLIP's norms follow the batch in the model alone
    named["loss"].backward()
    assert all(value.grad is None for value in training.teacher.parameters())
    assert not any(value.requires_grad for value in training.teacher.parameters())
    assert training.kept() is training.model


def test_only_a_weight_of_consistency_makes_a_teacher() -> None:
    plain = TrisSegmentor(CONFIG.model_copy(update={"consistency": 0.0}), small_clip(16))
    assert trainer_of(plain, WORDS) is plain
    assert isinstance(trainer_of(TrisSegmentor(CONFIG, small_clip(16)), WORDS), TaughtTris)


class Stopped(Scenes):
    """Tells the training to stop at its third step."""

    def __init__(self) -> None:
        super().__init__(6)
        self.collated = 0

    def collate(self, items: list[dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
        self.collated += 1
        if self.collated == 3:
            signal.raise_signal(signal.SIGTERM)
        batch = super().collate(items)
        return {n: v.float() if v.is_floating_point() else v for n, v in batch.items()}


def test_a_resumed_training_has_its_teacher_as_it_was(tmp_path: Path) -> None:
    def train(name: str, data: Stopped) -> Path:
        output = tmp_path / name / "model.safetensors"
        execution = Execution(save_every=1)
        fit(
            *(taught(), data, CONFIG),
            **{"execution": execution, "output": output, "fingerprint": "", "about": {}},
        )
        return output

    whole = Stopped()
    whole.collated = 3  # it is not stopped
    with pytest.raises(Interrupted):
        train("broken", Stopped())
    resumed = Stopped()
    resumed.collated = 3
    assert file_hash(train("broken", resumed)) == file_hash(train("whole", whole))
