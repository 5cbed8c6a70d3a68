"""What a training tells while it runs: its progress, and curves for tensorboard."""

import shutil
import time
from collections.abc import Mapping
from pathlib import Path

from torch.utils.tensorboard import SummaryWriter

from stages.training.progress import Progress


class Reports:
    """Progress in the log, and curves in `folder`; those of an earlier training are removed."""

    def __init__(self, folder: Path, name: str, step: int, total: int, items: float) -> None:
        """From `step` of `total` on; a step sees so many items."""
        if step == 0:
            shutil.rmtree(folder, ignore_errors=True)
        self.board = SummaryWriter(str(folder), purge_step=step)
        self.progress = Progress(name, step, total)
        self.items = items
        self.told = step, time.monotonic()

    def tell(self, step: int, losses: dict[str, float], learning_rate: float) -> None:
        """The mean losses since the last time, after `step` steps."""
        (last, then), self.told = self.told, (step, time.monotonic())
        speed = (step - last) * self.items / (self.told[1] - then)
        self.progress.update(step, losses)
        curves: Mapping[str, float] = {
            **losses,
            "learning_rate": learning_rate,
            "items_per_second": speed,
        }
        for name, value in curves.items():
            self.board.add_scalar(f"train/{name}", value, step)

    def close(self) -> None:
        self.board.close()
