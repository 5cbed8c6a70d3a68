"""The one training loop: whatever is trained here, is trained by `fit`.

Each random draw is a function of (seed, epoch, item), so that a run continued from its saved state
equals the unbroken one bit for bit on the same device with the same number of threads.
"""

import logging
import math
import os
import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.data import DataLoader
from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

from stages.core.config import Training
from stages.core.device import autocast, choose_device
from stages.core.errors import InputError
from stages.core.files import write_json
from stages.training.checkpoint import load_state, save_state, save_weights

log = logging.getLogger(__name__)

Batch = dict[str, Tensor]
Draw = tuple[int, int]  # epoch, item
LOG_EVERY = 20  # steps


class TrainingData(Protocol):
    """Items addressed by (epoch, index), the same item for the same address."""

    groups: NDArray[np.int64] | None  # of each item: what it shares an image with

    def __len__(self) -> int: ...

    def __getitem__(self, draw: Draw) -> Any: ...

    def collate(self, items: list[Any]) -> Batch: ...


class Trainable(Protocol):
    """A module that knows its losses, its parameter groups, and which of its weights to keep."""

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Named losses; `loss` is the one that is minimized."""

    def parameter_groups(self, config: Any) -> list[dict[str, Any]]:
        """Groups for a torch optimizer: `params`, `lr`, and what else differs."""

    def kept(self) -> nn.Module:
        """The part whose weights are the result (a frozen judge is not)."""


class Progress:
    """Counts steps on a terminal, or writes a line now and then where there is none."""

    def __init__(self, name: str, first: int, total: int, pause: float = 15) -> None:
        self.bar = tqdm(desc=name, initial=first, total=total, disable=None, file=sys.stderr)
        self.name, self.first, self.total = name, first, total
        self.started = self.written = time.monotonic()
        self.pause = pause  # seconds between lines
        self.timed = first, self.started

    def speed(self, step: int) -> float:
        """Steps a second since this was asked last."""
        (last, then), self.timed = self.timed, (step, time.monotonic())
        return (step - last) / (self.timed[1] - then)

    def update(self, step: int, losses: dict[str, float]) -> None:
        """Steps done so far, and the latest mean losses."""
        text = "  ".join(f"{name} {value:.4g}" for name, value in losses.items())
        self.bar.set_postfix_str(text, refresh=False)
        self.bar.update(step - self.bar.n)
        now = time.monotonic()
        if self.bar.disable and (now - self.written > self.pause or step == self.total):
            left = (now - self.started) / (step - self.first) * (self.total - step)
            log.info("%s: step %d of %d, %.0f s left  %s", self.name, step, self.total, left, text)
            self.written = now


def fit(
    trainable: nn.Module,
    data: TrainingData,
    config: Training,
    *,
    output: Path,
    fingerprint: str,
    about: dict[str, str],
) -> None:
    """Train, and write the kept weights to `output`, the loss curve and a tensorboard beside it.

    A resume state lies beside the output until that is written: a run that was ended in the middle
    continues from it if `fingerprint` (options and data) is the same. Raises InputError at the
    first loss that is not finite.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise InputError("training on several devices at once is not supported yet: use one")
    device = choose_device()
    torch.manual_seed(config.seed)
    trainable.to(device).train()
    trainable.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # faster
    run = _Run(trainable, config, output, fingerprint, steps_per_epoch=_num_steps(data, config))
    run.resume()
    batches = _loader(data, config, first_step=run.step)
    progress = Progress(output.parent.name, run.step, run.total)
    curves = output.parent / "tensorboard"
    if run.step == 0:
        shutil.rmtree(curves, ignore_errors=True)  # of an earlier training
    with SummaryWriter(str(curves), purge_step=run.step) as board:
        for micro_batches in batches:
            run.advance(micro_batches, device)
            if run.step % LOG_EVERY == 0 or run.step == run.total:
                progress.update(run.step, run.record(board))
                speed = progress.speed(run.step) * len(data) / run.steps_per_epoch
                board.add_scalar("train/items_per_second", speed, run.step)
            if run.step % config.save_every == 0 and run.step < run.total:
                run.save()
    save_weights(output, run.result().state_dict(), about)
    write_json(output.parent / "losses.json", run.history)
    run.state_path.unlink(missing_ok=True)


class _Run:
    """What changes while training, and how a step changes it."""

    def __init__(
        self,
        trainable: nn.Module,
        config: Training,
        output: Path,
        fingerprint: str,
        steps_per_epoch: int,
    ) -> None:
        self.trainable, self.config, self.fingerprint = trainable, config, fingerprint
        self.steps_per_epoch = steps_per_epoch
        self.step, self.total = 0, steps_per_epoch * config.epochs
        self.state_path = output.with_suffix(".state.pt")
        self.optimizer = _optimizer(trainable, config)
        self.base_rates = [group["lr"] for group in self.optimizer.param_groups]
        self.kept = cast(Trainable, trainable).kept()
        self.average = (
            AveragedModel(
                self.kept, multi_avg_fn=get_ema_multi_avg_fn(config.ema), use_buffers=True
            )
            if config.ema
            else None
        )
        self.recent: list[dict[str, Tensor]] = []
        self.history: list[dict[str, float]] = []

    def advance(self, micro_batches: Sequence[tuple[Batch, float]], device: torch.device) -> None:
        """One optimizer step over the micro-batches of one batch, each with its share of it."""
        rates = learning_rates(self.config, self.base_rates, self.step, self.total)
        for group, rate in zip(self.optimizer.param_groups, rates, strict=True):
            group["lr"] = rate
        self.optimizer.zero_grad(set_to_none=True)
        sums: dict[str, Tensor] = {}
        for batch, share in micro_batches:
            on_device = {name: value.to(device, non_blocking=True) for name, value in batch.items()}
            with autocast(device, self.config.precision):
                losses = self.trainable(on_device)
            (losses["loss"] * share).backward()
            for name, value in losses.items():
                part = value.detach().float() * share
                sums[name] = sums[name] + part if name in sums else part
        if self.config.clip_norm is not None:
            nn.utils.clip_grad_norm_(self.trainable.parameters(), self.config.clip_norm)
        self.optimizer.step()
        if self.average is not None:
            self.average.update_parameters(self.kept)
        self.recent.append(sums)
        self.step += 1

    def record(self, board: SummaryWriter) -> dict[str, float]:
        """Mean losses since the last record, checked to be finite; one transfer for all of them."""
        names = list(self.recent[0])
        values = torch.stack([torch.stack([row[name] for name in names]) for row in self.recent])
        table = values.cpu().double().numpy()  # (steps, losses)
        self._require_finite(names, table)
        means = dict(zip(names, table.mean(0).tolist(), strict=True))
        rate = self.optimizer.param_groups[-1]["lr"]
        epoch = self.step / self.steps_per_epoch
        self.history.append({"step": self.step, "epoch": epoch, "learning_rate": rate, **means})
        for name, value in means.items():
            board.add_scalar(f"train/{name}", value, self.step)
        board.add_scalar("train/learning_rate", rate, self.step)
        self.recent = []
        return means

    def _require_finite(self, names: list[str], table: NDArray[np.float64]) -> None:
        bad = np.flatnonzero(~np.isfinite(table).all(axis=1))
        if bad.size == 0:
            return
        step = self.step - len(table) + int(bad[0])
        values = ", ".join(f"{name} {x:.4g}" for name, x in zip(names, table[bad[0]], strict=True))
        raise InputError(
            f"epoch {step // self.steps_per_epoch}, step {step}: loss is not finite ({values});"
            " lower learning_rate, set clip_norm, or use precision: float32"
        )

    def save(self) -> None:
        """Write the resume state, after all losses so far were found finite."""
        if self.recent:
            names = list(self.recent[0])
            rows = [[float(row[name]) for name in names] for row in self.recent]
            self._require_finite(names, np.array(rows))
        state = {
            "fingerprint": self.fingerprint,
            "step": self.step,
            "weights": self.kept.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "average": self.average.state_dict() if self.average is not None else None,
            "random": torch.get_rng_state(),
            "random_gpu": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
            "recent": self.recent,
            "history": self.history,
        }
        save_state(self.state_path, state)

    def resume(self) -> None:
        """Continue from the saved state, if there is one that fits."""
        state = load_state(self.state_path, self.fingerprint)
        if state is None:
            return
        self.kept.load_state_dict(state["weights"])
        self.optimizer.load_state_dict(state["optimizer"])
        if self.average is not None:
            self.average.load_state_dict(state["average"])
        torch.set_rng_state(state["random"])
        if state["random_gpu"] and torch.cuda.is_available():
            torch.cuda.set_rng_state_all(state["random_gpu"])
        device = next(self.kept.parameters()).device
        self.recent = [{k: v.to(device) for k, v in row.items()} for row in state["recent"]]
        self.history, self.step = state["history"], state["step"]
        log.info("continues at step %d of %d", self.step, self.total)

    def result(self) -> nn.Module:
        """The module whose weights are the result."""
        return self.average.module if self.average is not None else self.kept


def learning_rates(
    config: Training, base_rates: Sequence[float], step: int, total: int
) -> list[float]:
    """The rate of every group at a step (from 0) of `total`."""
    factor = schedule(config, step, total)
    if config.one_rate_first_epoch and step * config.epochs < total:
        return [config.learning_rate * factor] * len(base_rates)
    return [rate * factor for rate in base_rates]


def schedule(config: Training, step: int, total: int) -> float:
    """The factor on every learning rate at a step (from 0) of `total`."""
    if step < config.warmup_steps:
        return (step + 1) / config.warmup_steps
    done = step / total
    if config.schedule == "poly":
        return float((1 - done) ** config.power)
    if config.schedule == "cosine":
        return 0.5 * (1 + math.cos(math.pi * done))
    if config.schedule == "multistep":
        epoch = step * config.epochs // total  # epochs that are finished
        return config.gamma ** sum(milestone <= epoch for milestone in config.milestones)
    return 1.0


def _optimizer(trainable: nn.Module, config: Training) -> Optimizer:
    groups = cast(Trainable, trainable).parameter_groups(config)
    if config.optimizer == "sgd":
        return torch.optim.SGD(groups, momentum=config.momentum, weight_decay=config.weight_decay)
    kind = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[config.optimizer]
    return kind(groups, weight_decay=config.weight_decay)


def _num_steps(data: TrainingData, config: Training) -> int:
    """Steps an epoch: the last, smaller batch counts."""
    return math.ceil(len(data) / config.batch_size)


def _loader(
    data: TrainingData, config: Training, first_step: int
) -> Iterator[list[tuple[Batch, float]]]:
    """The micro-batches of each step and their shares, from `first_step` to the last step."""
    loader: Iterator[Batch] = iter(
        DataLoader(
            data,  # type: ignore[arg-type]  # addressed by (epoch, index)
            batch_sampler=_MicroBatches(data, config, first_step),  # type: ignore[arg-type]
            collate_fn=data.collate,
            num_workers=config.workers,
            pin_memory=torch.cuda.is_available(),
        )
    )
    for step in _batches(data, config, first_step):
        yield [(next(loader), len(part) / len(step)) for part in _parts(step, config)]


class _MicroBatches:
    """What each forward pass sees, for the processes that read it."""

    def __init__(self, data: TrainingData, config: Training, first_step: int) -> None:
        self.data, self.config, self.first_step = data, config, first_step

    def __iter__(self) -> Iterator[list[Draw]]:
        for step in _batches(self.data, self.config, self.first_step):
            yield from _parts(step, self.config)


def _parts(step: list[Draw], config: Training) -> list[list[Draw]]:
    size = math.ceil(config.batch_size / config.accumulate)
    return [step[i : i + size] for i in range(0, len(step), size)]


def _batches(data: TrainingData, config: Training, first_step: int) -> Iterator[list[Draw]]:
    """The items of each step; an epoch's order is a function of seed and epoch."""
    steps = _num_steps(data, config)
    for epoch in range(first_step // steps, config.epochs):
        order = _order(data, np.random.default_rng([config.seed, epoch]), config.group_by_image)
        for step in range(first_step - epoch * steps if epoch == first_step // steps else 0, steps):
            chosen = order[step * config.batch_size : (step + 1) * config.batch_size]
            yield [(epoch, int(index)) for index in chosen]


def _order(
    data: TrainingData, draw: np.random.Generator, group_by_image: bool
) -> NDArray[np.int64]:
    """A permutation of all items; grouped, the items of an image stay together."""
    order = draw.permutation(len(data))
    if not group_by_image or data.groups is None:
        return order
    _, group = np.unique(data.groups, return_inverse=True)
    rank = draw.permutation(group.max() + 1)
    return order[np.argsort(rank[group[order]], kind="stable")]
