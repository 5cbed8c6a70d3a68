"""One piece of work, as the official code does it and as ours does."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from stages.config.section import Execution
from stages.runtime.device import set_up_gpu
from stages.training.engine import _Run

# Of a training step. Batch norms over a few images enlarge rounding: for stage 2 of TRIS at 160 px,
# 3 images, gradients of the official code and of ours are 2 % of their length from those of
# float64, ours in channels_last 4 to 5 %.
STEP = {"loss": 1e-4, "gradients": 0.15}
START = 49406  # CLIP's token of the start; the next one is the end

Results = dict[str, Any]  # arrays, numbers, or tensors by name


@dataclass(frozen=True)
class Comparison:
    """Both do the same work on the same inputs, from the same weights."""

    official: Callable[[], Any]
    ours: Callable[[], Any]
    results: Callable[[], tuple[Results, Results]]  # of both, after each ran once
    work: str  # how much it is, in words
    tolerances: dict[str, float]  # differences of the results that rounding explains


@dataclass(frozen=True)
class Sizes:
    """How much is done, and in which number formats."""

    exact: bool  # both in float32, else each in the format that it trains in
    tris_side: int  # pixels that TRIS sees
    tris_batch: int
    query_side: int  # pixels that CRIS and ETRIS see
    query_batches: tuple[int, int]  # of CRIS, of ETRIS
    etris: str  # its CLIP
    picture: tuple[int, int]  # width and height of an image
    walked: tuple[int, int]  # height and width of the grid of the random walk
    images: int  # of the evaluated split


PUBLISHED = Sizes(False, 320, 48, 416, (64, 32), "r101", (640, 480), (120, 160), 64)
SMALL = Sizes(True, 160, 3, 160, (3, 3), "r50", (320, 240), (36, 48), 4)


def differences(official: Results, ours: Results) -> dict[str, float]:
    """How far results are apart, by name: 0 is equal.

    Of whole numbers (labels) the share that differs; of tensors by name (gradients) the length of
    their difference over the official length; of others the largest difference over the largest
    official value.
    """
    if official.keys() != ours.keys():
        raise ValueError(f"results {sorted(official)} and {sorted(ours)}")
    return {name: _difference(official[name], ours[name]) for name in official}


def _difference(official: Any, ours: Any) -> float:
    if isinstance(official, dict):
        return _apart(official, ours)
    a, b = (np.asarray(_numbers(values)) for values in (official, ours))
    if a.shape != b.shape:
        raise ValueError(f"shapes {a.shape} and {b.shape}")
    if a.dtype.kind in "biu":
        return float(np.mean(a != b))
    scale, apart = np.abs(a).max(initial=0.0), np.abs(a - b).max(initial=0.0)
    return float(apart / scale if scale else apart)


def _apart(official: dict[str, Tensor], ours: dict[str, Tensor]) -> float:
    if surplus := ours.keys() - official.keys():
        raise ValueError(f"only ours has a gradient of {sorted(surplus)[0]}")
    squares = torch.zeros(2, dtype=torch.float64)
    for name in ours:
        a, b = (values[name].detach().double().cpu() for values in (official, ours))
        squares += torch.stack([(a - b).square().sum(), a.square().sum()])
    return float((squares[0] / squares[1]).sqrt())


def _numbers(values: Any) -> Any:
    return values.detach().cpu().numpy() if torch.is_tensor(values) else values


def fill(module: nn.Module, seed: int = 0) -> None:
    """Random weights with which features neither grow nor vanish from layer to layer."""
    draw = torch.Generator().manual_seed(seed)

    def normal(value: Tensor) -> Tensor:
        return torch.randn(value.shape, generator=draw)

    state = module.state_dict()
    for name, value in state.items():
        leaf = name.rpartition(".")[2]
        if not value.is_floating_point() or leaf in ("logit_scale", "attn_mask"):
            continue
        if leaf == "running_var":
            new = 0.5 + torch.rand(value.shape, generator=draw)
        elif value.ndim >= 2:
            new = normal(value) / math.sqrt(math.prod(value.shape[1:]))
        elif leaf in ("weight", "gamma"):
            new = 1 + 0.1 * normal(value)
        else:
            new = 0.1 * normal(value)
        value.copy_(new)
    module.load_state_dict(state)


def without_dropout(*modules: nn.Module) -> None:
    """Dropout draws other values in each code: it is off in both."""
    for module in modules:
        for part in module.modules():
            if isinstance(part, nn.Dropout):
                part.p = 0.0
            elif isinstance(part, nn.MultiheadAttention):
                part.dropout = 0.0


def gradients(model: nn.Module) -> dict[str, Tensor]:
    """The gradients of the latest step, by the name of their parameter."""
    return {n: p.grad for n, p in model.named_parameters() if p.grad is not None}


def sentences(shape: tuple[int, ...], seed: int = 0) -> Tensor:
    """CLIP token ids of that shape (..., length): start, some words, end, zeros."""
    draw = torch.Generator().manual_seed(seed)
    tokens = torch.zeros(shape, dtype=torch.int64).view(-1, shape[-1])
    for number, row in enumerate(tokens):
        end = 4 + number % (shape[-1] - 5)
        row[1:end] = torch.randint(300, START, (end - 1,), generator=draw)
        row[0], row[end] = START, START + 1
    return tokens.view(shape)


def start(trainable: nn.Module, config: Any, device: torch.device) -> _Run:
    """Our training of a model, before its first step."""
    if device.type == "cuda":
        set_up_gpu(config.precision, deterministic=False, has_one_shape=True)
    return _Run(trainable, config, device, Path("model.safetensors"), "", 10**6, Execution())


def first_loss(run: _Run) -> Tensor:
    """The loss of the first step of a training."""
    return run.recent[0][run.names.index("loss")]
