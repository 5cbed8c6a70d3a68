"""CRIS against the official code: evaluation, a training step, checkpoint, learning rates."""

from pathlib import Path

import pytest
import torch

from tests.parity import clip_models
from tests.parity.golden import CASES, load
from tests.parity.query_models import chosen

KNOWN = sorted(path.stem.removeprefix("manifest_") for path in CASES.glob("cris/manifest_cris_*"))


@pytest.mark.parametrize("path", chosen("cris", "cris_*_eval*"))
def test_evaluation_gives_the_official_logits(path: Path, device: torch.device) -> None:
    clip_models.check_evaluation(load(path), device)


@pytest.mark.parametrize("path", chosen("cris", "cris_*_train*"))
def test_a_training_step_is_the_official_one(path: Path, device: torch.device) -> None:
    clip_models.check_training(load(path), device)


@pytest.mark.parametrize("name", KNOWN)
def test_an_official_checkpoint_loads_by_key_and_trains_at_the_official_rates(
    name: str, tmp_path: Path
) -> None:
    clip_models.check_checkpoint(name, tmp_path)
