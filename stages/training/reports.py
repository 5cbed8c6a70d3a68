"""Reports of a running training: its progress, and what its trackers show."""

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from stages.training.progress import Progress, Speed
from stages.training.trackers import Tracker

log = logging.getLogger(__name__)

PANELS = 10  # a training: as many panels as tensorboard keeps images

DrawPanel = Callable[[nn.Module], NDArray[np.uint8]]  # an image (H, W, 3) of predictions of a model


class Reports:
    """Progress in the log; curves and panels for the trackers."""

    def __init__(
        self,
        trackers: Sequence[Tracker],
        name: str,
        step: int,
        total: int,
        items: float,
        panel: DrawPanel | None = None,
    ) -> None:
        """Start at `step` of `total`; each step has `items` items."""
        self.trackers = trackers
        self.progress = Progress(name, step, total)
        self.total, self.items, self.panel = total, items, panel
        self.told = step, time.monotonic(), 0.0

    def __enter__(self) -> "Reports":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        for tracker in self.trackers:
            tracker.close(is_finished=kind is None)

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
        self._track(step, "train", curves)

    def tell_scores(self, step: int, row: Mapping[str, Any]) -> None:
        """Report a validation after `step` steps: its scores are the fractions of the row."""
        scores = {name: value for name, value in row.items() if isinstance(value, float)}
        self._track(step, row["split"], scores)
        text = ", ".join(f"{name} {100 * value:.1f} %" for name, value in scores.items())
        log.info("epoch %d: %s on %s", row["epoch"], text, row["split"])

    def _track(self, step: int, group: str, values: Mapping[str, float]) -> None:
        for tracker in self.trackers:
            tracker.scalars(step, {f"{group}/{name}": value for name, value in values.items()})

    def show(self, step: int, model: nn.Module) -> None:
        """Show predictions of the model after `step` steps, at a few moments."""
        moments = [PANELS * number // self.total for number in (step - 1, step)]
        if self.panel is not None and self.trackers and moments[0] < moments[1]:
            pixels = self.panel(model)
            for tracker in self.trackers:
                tracker.image(step, "val", pixels)
