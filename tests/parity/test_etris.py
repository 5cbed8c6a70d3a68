"""ETRIS against the official code: evaluation, a training step, checkpoint, learning rates."""

from pathlib import Path

import numpy as np
import pytest
import torch

from stages.backbones.clip import resize_positions
from tests.parity import clip_models, recipes
from tests.parity.golden import CASES, cases, load
from tests.parity.query_models import chosen

KNOWN = sorted(path.stem.removeprefix("manifest_") for path in CASES.glob("cris/manifest_etris_*"))


@pytest.mark.parametrize("path", chosen("cris", "etris_*_eval*"))
def test_evaluation_gives_the_official_logits(path: Path, device: torch.device) -> None:
    clip_models.check_evaluation(load(path), device)


@pytest.mark.parametrize("path", chosen("cris", "etris_*_train*"))
def test_a_training_step_is_the_official_one(path: Path, device: torch.device) -> None:
    clip_models.check_training(load(path), device)


@pytest.mark.parametrize("name", KNOWN)
def test_an_official_checkpoint_loads_by_key_and_trains_at_the_official_rates(
    name: str, tmp_path: Path
) -> None:
    clip_models.check_checkpoint(name, tmp_path)


@pytest.mark.parametrize("path", cases("cris", "clipinit_etris_v16"), ids=lambda path: path.stem)
@pytest.mark.parametrize("size", [416, 320])
def test_positions_of_a_vision_transformer_are_resized_as_officially(path: Path, size: int) -> None:
    golden = load(path)
    values = recipes.parameter("visual.positional_embedding", (197, 768), 0)
    ours = resize_positions(torch.from_numpy(values), size // 16, size // 16, "bicubic").numpy()
    assert list(ours.shape) == golden.meta[f"pos_shape_{size}"]
    rows = golden.arrays[f"pos_{size}_rows"]
    np.testing.assert_allclose(ours[rows], golden.arrays[f"pos_{size}"], atol=1e-6, rtol=0)
    sums = ours.astype(np.float64).sum(axis=0)
    np.testing.assert_allclose(sums, golden.arrays[f"pos_{size}_colsum"], atol=1e-4, rtol=0)
