"""Which weights of a training are its result: those of the last epoch, or of the best one."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from stages.config.selection import SelectedTraining
from stages.runtime.errors import InputError

Row = dict[str, Any]  # of losses.json


class Validator(Protocol):
    """Scores a split by the weights of a model, which it does not change."""

    def __call__(self, model: nn.Module, is_ended: Callable[[], bool]) -> dict[str, float] | None:
        """Fractions by their names, the same in all processes; None if `is_ended` says so."""


class Selection:
    """The validations of a training, and the weights of the best one where these are kept."""

    def __init__(self, options: SelectedTraining, validator: Validator) -> None:
        assert options.validation is not None
        self.options, self.validation, self.validator = options, options.validation, validator
        self.rows: list[Row] = []
        self.weights: dict[str, Tensor] | None = None  # of the best epoch, on the CPU

    def is_due(self, step: int, steps_per_epoch: int) -> bool:
        """Whether a split is to be scored after `step` steps, and was not yet."""
        epoch, rest = divmod(step, steps_per_epoch)
        if rest or epoch <= self.options.first_epoch:
            return False
        is_of_interest = epoch % self.validation.every == 0 or epoch == self.options.epochs
        return is_of_interest and all(row["step"] != step for row in self.rows)

    def validate(
        self, model: nn.Module, step: int, epoch: int, is_ended: Callable[[], bool]
    ) -> Row | None:
        """Score the split after an epoch; None if that was ended. Random numbers stay as they are.

        Raises InputError if the split does not fit into the memory of the GPU.
        """
        devices = [torch.cuda.current_device()] if torch.cuda.is_available() else []
        try:
            with torch.random.fork_rng(devices), _no_trials():
                scores = self.validator(model, is_ended)
        except torch.OutOfMemoryError as error:
            message = str(error).partition(". ")[0]
            raise InputError(
                f"validation: {message}; needed a batch_size below {self.validation.batch_size}"
            ) from None
        if scores is None:
            return None
        row = {"step": step, "epoch": epoch, "split": "+".join(self.validation.split), **scores}
        self.rows.append(row)
        if self.options.keep == "best" and self.best is row:
            state = model.state_dict()
            self.weights = {k: value.detach().cpu().clone() for k, value in state.items()}
        return row

    @property
    def best(self) -> Row:
        """The validation with the highest metric; the earlier one of equals."""
        return max(self.rows, key=lambda row: float(row[self.validation.metric]))

    @property
    def stops(self) -> bool:
        """Whether the training ends here, by `early_stopping`."""
        if self.options.early_stopping is None or not self.rows:
            return False
        since = len(self.rows) - 1 - self.rows.index(self.best)
        return since >= self.options.early_stopping

    @property
    def kept(self) -> Row:
        """The validation of the weights that are the result."""
        return self.best if self.options.keep == "best" else self.rows[-1]

    def history(self) -> list[Row]:
        """A row for each validation, for losses.json."""
        return [{**row, "kept": row is self.kept} for row in self.rows]

    def about(self) -> dict[str, Any]:
        """What run.json says of the validations."""
        metric = self.validation.metric
        return {
            "split": "+".join(self.validation.split),
            "metric": metric,
            "keep": self.options.keep,
            "kept_epoch": self.kept["epoch"],
            "best_epoch": self.best["epoch"],
            "best_value": self.best[metric],
            "epochs": self.rows,
        }

    def state(self) -> dict[str, Any]:
        return {"rows": self.rows, "weights": self.weights}

    def load_state(self, state: dict[str, Any]) -> None:
        self.rows, self.weights = state["rows"], state["weights"]


@contextmanager
def _no_trials() -> Iterator[None]:
    """Convolutions are not tried for each number of images, which differs from batch to batch."""
    before = torch.backends.cudnn.benchmark
    torch.backends.cudnn.benchmark = False
    try:
        yield
    finally:
        torch.backends.cudnn.benchmark = before
