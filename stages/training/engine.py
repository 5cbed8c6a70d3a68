"""The one training loop: every model is trained by `fit`.

Each random draw is a function of (seed, epoch, item) or of (seed, step, process), so that a run
that resumes from its saved state equals an uninterrupted one: bit for bit on a CPU with the same
number of threads, on a GPU up to the sums that CUDA adds in any order. torchrun can start one
process for each GPU: they share the items of a step, and the result is that of one process up to
rounding.
"""

import logging
import math
import time
import warnings
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, closing, nullcontext
from pathlib import Path
from typing import Any, Protocol, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Optimizer
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from stages.config.section import Execution, Training
from stages.runtime.device import autocast, choose_device, given_threads, set_up_gpu
from stages.runtime.distributed import (
    among_first,
    is_first_process,
    joined,
    process_count,
    process_rank,
    total,
)
from stages.runtime.errors import InputError
from stages.storage.files import write_json
from stages.storage.weights import save_weights
from stages.training.batches import (
    Batch,
    MicroBatch,
    Steps,
    TrainingData,
    count_items,
    count_rows,
    count_steps,
    count_workers,
)
from stages.training.checkpoint import load_state, save_state
from stages.training.interruption import Interruption
from stages.training.norms import copy_norms, synchronize_norms
from stages.training.progress import Speed
from stages.training.reports import DrawPanel, Reports
from stages.training.schedule import learning_rates

log = logging.getLogger(__name__)

LOG_EVERY = 20  # steps


class Trainable(Protocol):
    """A module with losses, parameter groups and a part whose weights are kept."""

    def forward(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Named losses; `loss` is the one that is minimized."""

    def parameter_groups(self, config: Any) -> list[dict[str, Any]]:
        """Groups for a torch optimizer: `params`, `lr` and other options."""

    def kept(self) -> nn.Module:
        """The module whose weights are the result (without a frozen judge)."""


def fit(
    trainable: nn.Module,
    data: TrainingData,
    config: Training,
    *,
    execution: Execution,
    output: Path,
    fingerprint: str,
    about: dict[str, str],
    panel: DrawPanel | None = None,
    finish: Callable[[nn.Module], None] | None = None,
) -> Speed:
    """Train, and write the kept weights to `output`, the loss curve and a tensorboard beside it.

    `panel` draws predictions of the kept part for tensorboard, a few times. `finish` completes the
    kept part after the last step, by what is measured on it: in the first process alone. Returns
    how fast the training went since it was started or continued.

    A resume state is kept beside the output until that is written: an interrupted run continues
    from it if `fingerprint` (options and data) is the same, also with another number of processes.
    Only the first process writes. Raises InputError at the first loss that is not finite, and if
    one item alone does not fit into the memory of the GPU; Interrupted, with the state saved, after
    the step in which a signal arrived.
    """
    device = choose_device()
    if device.type == "cuda":
        set_up_gpu(config.precision, execution.deterministic, not config.group_by_image)
    started = time.perf_counter()
    with joined(device), Interruption() as interruption:
        run = _Run(
            trainable, config, device, output, fingerprint, count_steps(data, config), execution
        )
        run.prepare = data.prepare
        run.resume()
        first = run.step
        with _reports(run, data, output, panel) as reports:
            while run.step < run.total:
                try:
                    _advance_to_end(run, data, execution, reports, interruption)
                    continue
                except torch.OutOfMemoryError as error:
                    message = str(error).partition(". ")[0]
                run.use_less_memory(message)
        seconds = time.perf_counter() - started
        if finish is not None:
            run.save()
    if is_first_process():
        if finish is not None:
            finish(run.result())
        save_weights(output, run.result().state_dict(), about)
        write_json(output.parent / "losses.json", run.history)
        run.state_path.unlink(missing_ok=True)
    items = (run.total - first) * count_items(data, config) / run.steps_per_epoch
    return Speed(items / seconds, run.waited / seconds)


def _reports(
    run: "_Run", data: TrainingData, output: Path, panel: DrawPanel | None
) -> AbstractContextManager[Reports | None]:
    """Reports of the first process; none for the others."""
    if not is_first_process():
        return nullcontext()
    items = count_items(data, run.config) / run.steps_per_epoch
    folder = output.parent / "tensorboard"
    return closing(Reports(folder, output.parent.name, run.step, run.total, items, panel))


def _advance_to_end(
    run: "_Run",
    data: TrainingData,
    execution: Execution,
    reports: Reports | None,
    interruption: Interruption,
) -> None:
    workers = count_workers(run.device, execution.workers, given_threads())
    steps = Steps(data, run.config, run.accumulate, run.step, workers)
    waited = run.waited
    with closing(iter(steps)) as loaded:
        for batches in loaded:
            run.waited = waited + steps.waited
            run.advance(batches)
            if run.step % LOG_EVERY == 0 or run.step == run.total:
                losses, rate = run.record()
                if reports is not None:
                    reports.tell(run.step, losses, rate, run.waited)
            if reports is not None:
                reports.show(run.step, run.result())
            ended = interruption.asked()
            if (run.step % execution.save_every == 0 or ended) and run.step < run.total:
                run.save()
                if ended:
                    interruption.end(
                        f"saved at step {run.step} of {run.total}, to go on from there"
                    )


class _Run:
    """The state of a training, and the steps that change it."""

    def __init__(
        self,
        trainable: nn.Module,
        config: Training,
        device: torch.device,
        output: Path,
        fingerprint: str,
        steps_per_epoch: int,
        execution: Execution,
    ) -> None:
        self.config, self.device, self.fingerprint = config, device, fingerprint
        self.steps_per_epoch = steps_per_epoch
        self.step, self.total = 0, steps_per_epoch * config.epochs
        self.accumulate = config.accumulate
        self.state_path = output.with_suffix(".state.pt")
        self.prepare: Callable[[Batch], Batch] = dict
        self.waited = 0.0  # seconds, for data
        if execution.recompute:
            _recompute(trainable)
        trainable.to(device).train()
        trainable.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # faster
        self.trainable = trainable
        if process_count() > 1:
            synchronize_norms(trainable, device)
        if execution.compile:
            self.trainable = cast(nn.Module, torch.compile(trainable, dynamic=False))
        if process_count() > 1:
            is_accumulated = self.accumulate > 1
            self.trainable = _distributed(self.trainable, device, is_accumulated=is_accumulated)
        self.optimizer = _optimizer(trainable, config, device)
        self.base_rates = [group["lr"] for group in self.optimizer.param_groups]
        self.kept = cast(Trainable, trainable).kept()
        self.teacher: Any = getattr(trainable, "teacher", None)  # follows the kept part
        self.average = (
            AveragedModel(
                self.kept, multi_avg_fn=get_ema_multi_avg_fn(config.ema), use_buffers=True
            )
            if config.ema
            else None
        )
        self.names: list[str] = []  # of the losses
        self.recent: list[Tensor] = []  # losses of the latest steps, of this process
        self.settled: list[list[float]] = []  # losses of the steps before, of all processes
        self.history: list[dict[str, float]] = []

    def advance(self, batches: Sequence[tuple[Batch, MicroBatch]]) -> None:
        """One optimizer step over this process's micro-batches."""
        torch.manual_seed(_draw(self.config.seed, self.step, process_rank()))
        rates = learning_rates(self.config, self.base_rates, self.step, self.total)
        for group, rate in zip(self.optimizer.param_groups, rates, strict=True):
            group["lr"] = rate
        self.optimizer.zero_grad(set_to_none=True)
        losses_of_parts = []
        for number, (batch, micro_batch) in enumerate(batches, start=1):
            is_last = number == len(batches)
            with self._gradient_exchange(is_last), among_first(micro_batch.processes):
                losses = self._losses(batch)
                share = self._share(batch, micro_batch)
                # The gradients are averaged over the processes; their sum is needed.
                (losses["loss"] * (share * process_count())).backward()
            if micro_batch.processes < process_count():
                copy_norms(self.trainable)  # those without items of their own saw none of the batch
            losses_of_parts.append(
                torch.stack([x.detach().float() for x in losses.values()]) * share
            )
            self.names = list(losses)
        if self.config.max_grad_norm is not None:
            nn.utils.clip_grad_norm_(self.trainable.parameters(), self.config.max_grad_norm)
        self.optimizer.step()
        if self.average is not None:
            self.average.update_parameters(self.kept)
        if self.teacher is not None:
            self.teacher.update(self.kept)
        self.recent.append(torch.stack(losses_of_parts).sum(0))
        self.step += 1

    def _losses(self, batch: Batch) -> dict[str, Tensor]:
        on_device = {k: value.to(self.device, non_blocking=True) for k, value in batch.items()}
        with autocast(self.device, self.config.precision):
            losses: dict[str, Tensor] = self.trainable(self.prepare(on_device))
        return losses

    def _share(self, batch: Batch, micro_batch: MicroBatch) -> float | Tensor:
        """What this process's micro-batch is of the step."""
        if process_count() == 1:
            return micro_batch.share
        if process_rank() >= micro_batch.processes:
            return 0.0
        rows = torch.tensor(count_rows(batch), dtype=torch.float64, device=self.device)
        return micro_batch.share * rows / total(rows)

    def _gradient_exchange(self, is_last: bool) -> AbstractContextManager[None]:
        """Processes exchange gradients once a step, after its last micro-batch."""
        if isinstance(self.trainable, DistributedDataParallel) and not is_last:
            return self.trainable.no_sync()
        return nullcontext()

    def use_less_memory(self, message: str) -> None:
        """Repeat the step in twice as many micro-batches, after the GPU ran out of memory."""
        items = math.ceil(self.config.batch_size / self.accumulate)  # of all processes
        if process_count() > 1:
            wanted = 2 * self.accumulate
            raise InputError(f"{message}; needed: fewer items at a time, by accumulate: {wanted}")
        if items == 1:
            raise InputError(f"{message}; needed: smaller images or a smaller model")
        self.accumulate *= 2
        torch.cuda.empty_cache()
        log.warning(
            "step %d: %s; from here on each step is done in %d parts, with the same result"
            " except for batch norms and the contrast of stage 1, which are taken over a part",
            *(self.step, message, self.accumulate),
        )

    def record(self) -> tuple[dict[str, float], float]:
        """Mean losses since the last record, checked to be finite, and the learning rate."""
        self._settle()
        means = dict(zip(self.names, np.mean(self.settled, axis=0).tolist(), strict=True))
        rate = self.optimizer.param_groups[-1]["lr"]
        epoch = self.step / self.steps_per_epoch
        self.history.append({"step": self.step, "epoch": epoch, "learning_rate": rate, **means})
        self.settled = []
        return means, rate

    def _settle(self) -> None:
        """Sum the latest losses over all processes, and check that they are finite."""
        if not self.recent:
            return
        table = total(torch.stack(self.recent)).double().cpu().numpy()  # (steps, losses)
        self._require_finite(table)
        self.settled += table.tolist()
        self.recent = []

    def _require_finite(self, table: NDArray[np.float64]) -> None:
        bad = np.flatnonzero(~np.isfinite(table).all(axis=1))
        if bad.size == 0:
            return
        step = self.step - len(table) + int(bad[0])
        row = zip(self.names, table[bad[0]], strict=True)
        values = ", ".join(f"{name} {value:.4g}" for name, value in row)
        raise InputError(
            f"epoch {step // self.steps_per_epoch}, step {step}: loss is not finite ({values});"
            " lower learning_rate, set max_grad_norm, or use precision: float32"
        )

    def save(self) -> None:
        """Write the resume state, after a check that all losses are finite."""
        self._settle()
        if not is_first_process():
            return
        state = {
            "fingerprint": self.fingerprint,
            "step": self.step,
            "weights": self.kept.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "average": self.average.state_dict() if self.average is not None else None,
            "teacher": self.teacher.state_dict() if self.teacher is not None else None,
            "names": self.names,
            "settled": self.settled,
            "history": self.history,
            "accumulate": self.accumulate,
        }
        save_state(self.state_path, state)

    def resume(self) -> None:
        """Continue from the saved state, if there is one with the same fingerprint."""
        state = load_state(self.state_path, self.fingerprint)
        if state is None:
            return
        self.kept.load_state_dict(state["weights"])
        self.optimizer.load_state_dict(state["optimizer"])
        if self.average is not None:
            self.average.load_state_dict(state["average"])
        if self.teacher is not None:
            self.teacher.load_state_dict(state["teacher"])
        self.names, self.settled = state["names"], state["settled"]
        self.history, self.step = state["history"], state["step"]
        if process_count() == 1:  # only one process may have changed it
            self.accumulate = state.get("accumulate", self.accumulate)
        log.info("continues at step %d of %d", self.step, self.total)

    def result(self) -> nn.Module:
        """The module whose weights are the result."""
        return self.average.module if self.average is not None else self.kept


def _distributed(trainable: nn.Module, device: torch.device, is_accumulated: bool) -> nn.Module:
    """The module in every process; its gradients are averaged over them."""
    with warnings.catch_warnings():
        # torch 2.14 renames broadcast_buffers, and 2.11 does not know the new name.
        warnings.simplefilter("ignore", FutureWarning)
        return DistributedDataParallel(
            trainable,
            device_ids=[device] if device.type == "cuda" else None,
            broadcast_buffers=False,  # the norms keep them equal
            # Parameters without a loss are the same in every step, so that a static graph would do;
            # but it fails where the first backward pass is one without an exchange.
            static_graph=not is_accumulated,
            find_unused_parameters=is_accumulated,
        )


def _draw(seed: int, step: int, process: int) -> int:
    """The seed of a process in a step."""
    return int(np.random.SeedSequence([seed, step, process]).generate_state(1, np.uint64)[0])


def _recompute(trainable: nn.Module) -> None:
    """Let the parts that can compute again in the backward pass do so."""
    parts = [module for module in trainable.modules() if hasattr(module, "recomputes")]
    for module in parts:
        cast(Any, module).recomputes = True
    if not parts:
        log.warning("recompute: this model has no part that does (Swin); the option has no effect")


def _optimizer(trainable: nn.Module, config: Training, device: torch.device) -> Optimizer:
    """On a GPU one kernel updates all weights."""
    groups = cast(Trainable, trainable).parameter_groups(config)
    decay, fused = config.weight_decay, True if device.type == "cuda" else None
    if config.optimizer == "sgd":
        return torch.optim.SGD(groups, momentum=config.momentum, weight_decay=decay, fused=fused)
    kind = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[config.optimizer]
    return kind(groups, weight_decay=decay, fused=fused)
