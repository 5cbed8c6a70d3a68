"""Reports of a running training: its progress, and tensorboard."""

import logging
import shutil
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn
from torch.utils.tensorboard import SummaryWriter

from stages.training.progress import Progress, Speed

log = logging.getLogger(__name__)

PANELS = 10  # a training: as many images as tensorboard keeps

DrawPanel = Callable[[nn.Module], NDArray[np.uint8]]  # an image (H, W, 3) of predictions of a model


class Reports:
    """Progress in the log; curves and panels in `folder`, which a new training empties."""

    def __init__(
        self,
        folder: Path,
        name: str,
        step: int,
        total: int,
        items: float,
        panel: DrawPanel | None = None,
        is_new: bool = True,
    ) -> None:
        """Start at `step` of `total`; each step has `items` items."""
        if is_new:
            shutil.rmtree(folder, ignore_errors=True)
        self.board = SummaryWriter(str(folder), purge_step=step)
        self.progress = Progress(name, step, total)
        self.total, self.items, self.panel = total, items, panel
        self.told = step, time.monotonic(), 0.0

    def tell(
        self, step: int, losses: dict[str, float], learning_rate: float, waited: float
    ) -> None:
        """Report the mean losses since the last call, after `step` steps.

        `waited` are the seconds that the training has waited for data since it began.
        """
        (last, then, before), self.told = self.told, (step, time.monotonic(), waited)
        seconds = self.told[1] - then
        speed = Speed((step - last) * self.items / seconds, (waited - before) / seconds)
        self.progress.update(step, losses, speed.waiting)
        curves = {
            **losses,
            "learning_rate": learning_rate,
            "items_per_second": speed.items_per_second,
            "waiting_for_data": speed.waiting,
        }
        for name, value in curves.items():
            self.board.add_scalar(f"train/{name}", value, step)

    def tell_scores(self, step: int, row: Mapping[str, Any]) -> None:
        """Report a validation after `step` steps: its scores are the fractions of the row."""
        scores = {name: value for name, value in row.items() if isinstance(value, float)}
        for name, value in scores.items():
            self.board.add_scalar(f"{row['split']}/{name}", value, step)
        text = ", ".join(f"{name} {100 * value:.1f} %" for name, value in scores.items())
        log.info("epoch %d: %s on %s", row["epoch"], text, row["split"])

    def show(self, step: int, model: nn.Module) -> None:
        """Show predictions of the model after `step` steps, at a few moments."""
        moments = [PANELS * number // self.total for number in (step - 1, step)]
        if self.panel is not None and moments[0] < moments[1]:
            self.board.add_image("val", self.panel(model), step, dataformats="HWC")

    def close(self) -> None:
        self.board.close()
