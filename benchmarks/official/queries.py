"""CRIS and ETRIS: a training step. Their codes differ in the model alone.

The official loop runs as it is, on a loader of one batch, in one process: what it exchanges between
processes is left out, and its pauses of two seconds. Dropout is off in both.
"""

import importlib
import time
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import torch
from torch import Tensor

from benchmarks.official.clone import Silent, on, opened
from benchmarks.official.comparison import (
    STEP,
    Comparison,
    Results,
    Sizes,
    fill,
    first_loss,
    gradients,
    sentences,
    start,
    without_dropout,
)
from stages.config.experiment import Experiment
from stages.models.saved import build_segmentor
from stages.storage.matching import load_exactly
from stages.training.batches import WHOLE_STEP

# Of each of CLIP's residual networks: embedding, resolution, layers, width, patch.
CLIPS = {
    "r50": (1024, 224, (3, 4, 6, 3), 64, None),
    "r101": (512, 224, (3, 4, 23, 3), 64, None),
}
TEXT = (49408, 512, 8, 12)  # vocabulary, width, heads and layers


class OneProcess(Silent):
    """torch.distributed where there is one process; keeps the first loss."""

    def __init__(self) -> None:
        self.loss: Tensor | None = None

    def all_reduce(self, value: Tensor) -> None:
        if self.loss is None:
            self.loss = value.clone()

    def get_world_size(self) -> int:
        return 1

    def get_rank(self) -> int:
        return 0


def step(
    root: Path,
    settings: str,
    clip: str,
    experiment: Experiment,
    batch_size: int,
    sizes: Sizes,
    device: torch.device,
) -> Comparison:
    """A training step by the settings of a YAML file of the clone."""
    with opened(root):
        segmenter = importlib.import_module("model.segmenter")
        build = importlib.import_module("model").build_segmenter
        make_clip = importlib.import_module("model.clip").CLIP
        engine = importlib.import_module("engine.engine")
        config_file = importlib.import_module("utils.config")
    args = config_file.load_cfg_from_cfg_file(str(root / "config" / "refcoco" / settings))
    side = sizes.query_side

    def without_file(_state: Any, length: int, *_resolution: int) -> torch.nn.Module:
        return make_clip(*CLIPS[clip], 77, length, *TEXT)

    segmenter.build_model = without_file
    with mock.patch.object(torch.jit, "load", Silent()):
        theirs, groups = build(args)
    fill(theirs)
    changes: dict[str, Any] = {"image_size": side, "batch_size": batch_size}
    if sizes.exact:
        changes["precision"] = "float32"
        engine.amp = SimpleNamespace(autocast=nullcontext, GradScaler=engine.amp.GradScaler)
    own = experiment.segmentor.model_copy(update=changes)
    ours = build_segmentor(own, pretrained=False)
    load_exactly(ours, theirs.state_dict(), root)
    without_dropout(theirs, ours)
    run = start(ours, own, device)

    draw = torch.Generator().manual_seed(0)
    images = torch.randn((batch_size, 3, side, side), generator=draw)
    tokens = sentences((batch_size, args.word_len))
    masks = (torch.rand((batch_size, side, side), generator=draw) < 0.3).float()
    batch = {"images": images, "tokens": tokens, "masks": masks}
    batch["image_index"] = torch.arange(batch_size)
    batch = {name: value.to(device) for name, value in batch.items()}

    theirs.to(device)
    optimizer = torch.optim.Adam(groups, lr=args.base_lr, weight_decay=args.weight_decay)
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimizer, args.milestones, args.lr_decay)
    engine.dist = OneProcess()
    engine.time = SimpleNamespace(time=time.time, sleep=Silent())
    # Its usual first scale overflows with random weights, and the step is left out.
    scaler = engine.amp.GradScaler(init_scale=1.0)

    def train() -> None:
        with on(device):
            engine.train([(images, tokens, masks)], theirs, optimizer, schedule, scaler, 1, args)

    def results() -> tuple[Results, Results]:
        return (
            {"loss": float(engine.dist.loss), "gradients": gradients(theirs)},
            {"loss": float(first_loss(run)), "gradients": gradients(ours)},
        )

    return Comparison(
        train,
        lambda: run.advance([(batch, WHOLE_STEP)]),
        results,
        f"{batch_size} items of {side} px, {clip.upper()}",
        STEP,
    )
