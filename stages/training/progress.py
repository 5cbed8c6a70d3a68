"""The progress of a training: a bar on a terminal, otherwise a line from time to time."""

import logging
import sys
import time
from dataclasses import dataclass

from tqdm import tqdm

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Speed:
    """How fast a training went."""

    items_per_second: float
    waiting: float  # share of the time that it waited for data


class Progress:
    """Counts the steps of a training."""

    def __init__(self, name: str, first: int, total: int, pause: float = 15) -> None:
        self.bar = tqdm(desc=name, initial=first, total=total, disable=None, file=sys.stderr)
        self.name, self.first, self.total = name, first, total
        self.started = self.logged = time.monotonic()
        self.pause = pause  # seconds between lines

    def update(self, step: int, losses: dict[str, float], waiting: float | None = None) -> None:
        """Steps so far, the latest mean losses, and the share of time that data was awaited."""
        text = "  ".join(f"{name} {value:.4g}" for name, value in losses.items())
        if waiting is not None:
            text += f"  waiting for data {waiting:.0%}"
        self.bar.set_postfix_str(text, refresh=False)
        self.bar.update(step - self.bar.n)
        now = time.monotonic()
        if self.bar.disable and (now - self.logged > self.pause or step == self.total):
            left = (now - self.started) / (step - self.first) * (self.total - step)
            log.info("%s: step %d of %d, %.0f s left  %s", self.name, step, self.total, left, text)
            self.logged = now
