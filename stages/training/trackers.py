"""Where the curves and images of a training go: files beside the model, and services.

Each tracker of `execution.trackers` is a class here or in services.py. A resumed training goes on
in the same files and runs.
"""

import csv
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from torch.utils.tensorboard import SummaryWriter

from stages.config.trackers import TrackerName, tracker_fault
from stages.runtime.errors import InputError
from stages.storage.files import replacing

CURVES = "curves.csv"
COLUMNS = ("step", "name", "value")


@dataclass(frozen=True)
class TrackedRun:
    """A training, as trackers know it."""

    name: str  # refshapes_tris/segmentor
    folder: Path  # of its model
    options: Mapping[str, Any]  # JSON values
    step: int  # so many steps are done
    is_new: bool  # not resumed


class Tracker(Protocol):
    """Keeps the curves and images of a training."""

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Values by their names, such as train/loss, after `step` steps."""

    def image(self, step: int, name: str, pixels: NDArray[np.uint8]) -> None:
        """An image (H, W, 3)."""

    def close(self, is_finished: bool) -> None:
        """The end; not `is_finished` if the training was interrupted or failed."""


class Tensorboard:
    """The folder `tensorboard`, emptied by a new training."""

    def __init__(self, run: TrackedRun) -> None:
        folder = run.folder / "tensorboard"
        if run.is_new:
            shutil.rmtree(folder, ignore_errors=True)
        self.board = SummaryWriter(str(folder), purge_step=run.step + 1)

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            self.board.add_scalar(name, value, step)

    def image(self, step: int, name: str, pixels: NDArray[np.uint8]) -> None:
        self.board.add_image(name, pixels, step, dataformats="HWC")

    def close(self, is_finished: bool) -> None:
        self.board.close()


class CurvesFile:
    """curves.csv, a row for each value; no images. A resumed training drops the rows it repeats."""

    def __init__(self, run: TrackedRun) -> None:
        path = run.folder / CURVES
        kept = [] if run.is_new else [row for row in _rows(path) if int(row[0]) <= run.step]
        with replacing(path) as temporary, temporary.open("w", newline="") as file:
            csv.writer(file, lineterminator="\n").writerows([COLUMNS, *kept])
        self.file = path.open("a", newline="")
        self.writer = csv.writer(self.file, lineterminator="\n")

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        self.writer.writerows((step, name, value) for name, value in values.items())
        self.file.flush()

    def image(self, step: int, name: str, pixels: NDArray[np.uint8]) -> None:
        pass

    def close(self, is_finished: bool) -> None:
        self.file.close()


def _rows(path: Path) -> Iterator[list[str]]:
    """The whole rows of a file of curves; a kill may have cut the last one."""
    if not path.exists():
        return
    with path.open(newline="") as file:
        for row in csv.reader(file):
            if len(row) == len(COLUMNS) and row[0].isdigit():
                yield row


def _wandb(run: TrackedRun) -> Tracker:
    from stages.training.services import Guarded, WandbRun  # a package that may not be there

    return Guarded("wandb", WandbRun(run))


def _mlflow(run: TrackedRun) -> Tracker:
    from stages.training.services import Guarded, MlflowRun

    return Guarded("mlflow", MlflowRun(run))


TRACKERS: dict[TrackerName, Callable[[TrackedRun], Tracker]] = {
    "tensorboard": Tensorboard,
    "csv": CurvesFile,
    "wandb": _wandb,
    "mlflow": _mlflow,
}


def start_trackers(names: Iterable[TrackerName], run: TrackedRun) -> list[Tracker]:
    """Begin, or go on with, what a training is tracked by.

    Raises InputError for a package that is not installed and for a service that refuses the run.
    """
    chosen = list(names)
    fault = tracker_fault(chosen)
    if fault is not None:
        raise InputError(f"execution.{fault}")
    run.folder.mkdir(parents=True, exist_ok=True)
    return [TRACKERS[name](run) for name in chosen]
