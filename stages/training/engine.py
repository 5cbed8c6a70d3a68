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
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, closing, nullcontext
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from stages.config.section import Execution, Training
from stages.runtime.device import autocast, choose_device, set_up_gpu
from stages.runtime.distributed import (
    among_first,
    is_first_process,
    joined,
    process_count,
    process_rank,
    total,
)
from stages.runtime.errors import InputError
from stages.runtime.loading import count_workers
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
)
from stages.training.checkpoint import load_state, save_state
from stages.training.finite import require_finite
from stages.training.interruption import Interruption
from stages.training.norms import copy_norms, synchronize_norms
from stages.training.progress import Speed
from stages.training.reports import DrawPanel, Reports
from stages.training.schedule import describe_continuation, learning_rates
from stages.training.selection import Selection
from stages.training.setup import (
    Trainable,
    averaged,
    distributed,
    learned_beside,
    make_optimizer,
    recompute_inner_values,
)
from stages.training.trackers import TrackedRun, start_trackers

log = logging.getLogger(__name__)

LOG_EVERY = 20  # steps


def fit(
    trainable: nn.Module,
    data: TrainingData,
    config: Training,
    *,
    execution: Execution,
    output: Path,
    fingerprint: str,
    about: dict[str, str],
    name: str | None = None,
    panel: DrawPanel | None = None,
    selection: Selection | None = None,
    first_epoch: int = 0,
    finish: Callable[[nn.Module], None] | None = None,
) -> Speed:
    """Train, and write the kept weights to `output`; the loss curve and trackers' files beside it.

    `name` is what trackers call the run, else as its folder. `panel` draws predictions of the kept
    part for them, a few times. `selection` scores a split after epochs and chooses the weights,
    else they are the last. The epochs before `first_epoch` count as done. `finish` completes the
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
        run.prepare, run.selection = data.prepare, selection
        run.step = begin = first_epoch * run.steps_per_epoch
        if first_epoch and is_first_process():
            log.info("%s", describe_continuation(config, first_epoch, run.steps_per_epoch))
        run.resume()
        first = run.step
        with _reports(run, data, output, name, begin, panel) as reports:
            _validate_if_due(run, reports, interruption)
            while not run.is_finished:
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
        save_weights(output, run.chosen_weights(), about)
        history = run.history + (selection.history() if selection is not None else [])
        write_json(output.parent / "losses.json", history)
        run.state_path.unlink(missing_ok=True)
    items = (run.step - first) * count_items(data, config) / run.steps_per_epoch
    return Speed(items / seconds, run.waited / seconds)


def _reports(
    run: "_Run",
    data: TrainingData,
    output: Path,
    name: str | None,
    begin: int,
    panel: DrawPanel | None,
) -> AbstractContextManager[Reports | None]:
    """Reports of the first process; none for the others."""
    if not is_first_process():
        return nullcontext()
    items = count_items(data, run.config) / run.steps_per_epoch
    folder, options = output.parent, run.config.model_dump(mode="json")
    tracked = TrackedRun(name or folder.name, folder, options, run.step, run.step == begin)
    trackers = start_trackers(run.trackers, tracked)
    return Reports(trackers, folder.name, run.step, run.total, items, panel)


def _advance_to_end(
    run: "_Run",
    data: TrainingData,
    execution: Execution,
    reports: Reports | None,
    interruption: Interruption,
) -> None:
    workers = count_workers(run.device, execution.workers)
    steps = Steps(data, run.config, run.accumulate, run.step, workers)
    waited = run.waited
    with closing(iter(steps)) as loaded:
        for batches in loaded:
            run.waited = waited + steps.waited
            run.advance(batches)
            if run.step % LOG_EVERY == 0 or run.step == run.total or run.is_validation_due:
                losses, rate = run.record()
                if reports is not None:
                    reports.tell(run.step, losses, rate, run.waited)
            if reports is not None:
                reports.show(run.step, run.result())
            _validate_if_due(run, reports, interruption)
            if run.is_finished:
                return
            ended = interruption.asked()
            if run.step % execution.save_every == 0 or ended:
                run.save()
                if ended:
                    run.end(interruption)


def _validate_if_due(run: "_Run", reports: Reports | None, interruption: Interruption) -> None:
    """Score the split after an epoch. A signal ends it; it is repeated from its start then."""
    if run.selection is None or not run.is_validation_due:
        return
    epoch = run.step // run.steps_per_epoch
    row = run.selection.validate(run.result(), run.step, epoch, interruption.asked)
    run.save()
    if row is None:
        run.end(interruption)
        return
    if reports is not None:
        reports.tell_scores(run.step, row)


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
        self.accumulate, self.trackers = config.accumulate, execution.trackers
        self.state_path = output.with_suffix(".state.pt")
        self.prepare: Callable[[Batch], Batch] = dict
        self.selection: Selection | None = None
        self.waited = 0.0  # seconds, for data
        if execution.recompute:
            recompute_inner_values(trainable)
        trainable.to(device).train()
        trainable.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # faster
        self.trainable = trainable
        if process_count() > 1:
            synchronize_norms(trainable, device)
        if execution.compile:
            self.trainable = cast(nn.Module, torch.compile(trainable, dynamic=False))
        if process_count() > 1:
            is_accumulated = self.accumulate > 1
            self.trainable = distributed(self.trainable, device, is_accumulated=is_accumulated)
        self.optimizer = make_optimizer(trainable, config)
        self.base_rates = [group["lr"] for group in self.optimizer.param_groups]
        self.kept = cast(Trainable, trainable).kept()
        self.aids = learned_beside(trainable)
        self.teacher: Any = getattr(trainable, "teacher", None)  # follows the kept part
        self.average = averaged(self.kept, config.ema) if config.ema else None
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
            " except for batch norms and contrasts of items, which are taken over a part",
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
        require_finite(table, self.names, self.step - len(table), self.steps_per_epoch)
        self.settled += table.tolist()
        self.recent = []

    def save(self) -> None:
        """Write the resume state, after a check that all losses are finite."""
        self._settle()
        if not is_first_process():
            return
        state = {
            "fingerprint": self.fingerprint,
            "step": self.step,
            "weights": self.kept.state_dict(),
            "aids": {name: value.detach() for name, value in self.aids.items()},
            "optimizer": self.optimizer.state_dict(),
            "average": self.average.state_dict() if self.average is not None else None,
            "teacher": self.teacher.state_dict() if self.teacher is not None else None,
            "names": self.names,
            "settled": self.settled,
            "history": self.history,
            "accumulate": self.accumulate,
            "selection": self.selection.state() if self.selection is not None else None,
        }
        save_state(self.state_path, state)

    def resume(self) -> None:
        """Continue from the saved state, if there is one with the same fingerprint."""
        state = load_state(self.state_path, self.fingerprint)
        if state is None:
            return
        self.kept.load_state_dict(state["weights"])
        for name, value in state.get("aids", {}).items():  # states of version 0.1 have none
            self.aids[name].data.copy_(value)
        self.optimizer.load_state_dict(state["optimizer"])
        if self.average is not None:
            self.average.load_state_dict(state["average"])
        if self.teacher is not None:
            self.teacher.load_state_dict(state["teacher"])
        if self.selection is not None:
            self.selection.load_state(state["selection"])
        self.names, self.settled = state["names"], state["settled"]
        self.history, self.step = state["history"], state["step"]
        if process_count() == 1:  # only one process may have changed it
            self.accumulate = state.get("accumulate", self.accumulate)
        log.info("continues at step %d of %d", self.step, self.total)

    @property
    def is_validation_due(self) -> bool:
        chosen = self.selection
        return chosen is not None and chosen.is_due(self.step, self.steps_per_epoch)

    @property
    def is_finished(self) -> bool:
        """Whether no step is left, or no validation became better for too long."""
        stops = self.selection is not None and self.selection.stops
        return self.step >= self.total or stops

    def end(self, interruption: Interruption) -> None:
        """End because of a signal; the state is saved."""
        interruption.end(f"saved at step {self.step} of {self.total}, to go on from there")

    def result(self) -> nn.Module:
        """The module whose weights are the result, as they are now."""
        return self.average.module if self.average is not None else self.kept

    def chosen_weights(self) -> dict[str, Tensor]:
        """The weights that are the result: those of the best epoch, where these are kept."""
        chosen = self.selection.weights if self.selection is not None else None
        return chosen if chosen is not None else self.result().state_dict()


def _draw(seed: int, step: int, process: int) -> int:
    """The seed of a process in a step."""
    return int(np.random.SeedSequence([seed, step, process]).generate_state(1, np.uint64)[0])
