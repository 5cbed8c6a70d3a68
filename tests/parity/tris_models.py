"""The official TRIS networks with the weights of the golden cases, built once each."""

from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from stages.backbones.clip import Clip, frozen, load_clip
from stages.config.encoders import ClipSource
from stages.config.segmentors import TrisOptions
from stages.config.steps import Stage1
from stages.models.tris import TrisSegmentor, TrisStage1
from tests.parity import recipes
from tests.parity.golden import cases, load

BATCH = 3


def training_cases(pattern: str) -> list[Any]:
    """Cases of training as parameters of a test; those of square images are marked slow.

    Images that are not square are mapped by the same code, and show besides what mixes up their
    height and width. Evaluation is compared on both.
    """
    return [
        pytest.param(path, id=path.stem, marks=pytest.mark.slow if _is_square(path) else ())
        for path in cases("tris", pattern)
    ]


def _is_square(path: Path) -> bool:
    meta = load(path).meta
    return bool(meta["H"] == meta["W"])


def filled_state(module: nn.Module, seed: int, prefix: str = "") -> dict[str, Tensor]:
    """The module's state with every float entry from the recipe; `prefix` is part of its name."""
    state = module.state_dict()
    entries = {
        prefix + name: (tuple(value.shape), str(value.dtype)) for name, value in state.items()
    }
    filled = recipes.state_dict(entries, seed)
    return {name: filled.get(prefix + name, value.clone()) for name, value in state.items()}


@cache
def _network(kind: str) -> nn.Module:
    if kind == "judge":
        return frozen(load_clip(ClipSource(model="ViT-B-32")))
    clip = load_clip(ClipSource(model="RN50"))
    if kind == "stage1":
        return TrisStage1(Stage1(), clip)
    return TrisSegmentor(TrisOptions(), clip)


_states: dict[str, tuple[int, dict[str, Tensor]]] = {}  # the latest seed only: they are large


def _filled(kind: str, seed: int, device: torch.device, prefix: str = "") -> nn.Module:
    module = _network(kind)
    if kind not in _states or _states[kind][0] != seed:
        _states[kind] = (seed, filled_state(module.cpu(), seed, prefix))
    module.to(device, torch.float32).load_state_dict(
        _states[kind][1]
    )  # a test may have made it float64
    module.zero_grad()
    return module


def stage1(seed: int, device: torch.device) -> TrisStage1:
    model = _filled("stage1", seed, device)
    assert isinstance(model, TrisStage1)
    return model


def stage2(seed: int, device: torch.device) -> TrisSegmentor:
    model = _filled("stage2", seed, device)
    assert isinstance(model, TrisSegmentor)
    return model


def judge(seed: int, device: torch.device) -> Clip:
    model = _filled("judge", seed, device, "aux_clip.")
    assert isinstance(model, Clip)
    return model


def release() -> None:
    """Forget the networks: they hold gigabytes."""
    _network.cache_clear()
    _states.clear()


def inputs(height: int, width: int, seed: int, device: torch.device) -> dict[str, Tensor]:
    """Images, tokens and masks of the golden cases: expression i belongs to image i."""
    blocks = recipes.parameter("pseudo_low", (BATCH, 1, height // 16, width // 16), seed) > 0
    masks = torch.from_numpy(blocks[:, 0]).float()
    batch = {
        "images": recipes.image((BATCH, 3, height, width), seed),
        "tokens": recipes.tokens(BATCH, 8, 20, seed),
        "image_index": torch.arange(BATCH),
        "masks": masks.repeat_interleave(16, dim=1).repeat_interleave(16, dim=2),
    }
    return recipes.on(device, batch)
