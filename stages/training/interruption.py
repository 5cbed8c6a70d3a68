"""End a training by a signal: after the current step, with its state saved."""

import signal
import time
from types import FrameType

from stages.runtime.distributed import any_process
from stages.runtime.errors import Interrupted, ending_signals

SAME = 2.0  # seconds within which a repeated signal (torchrun sends one, too) counts as one


class Interruption:
    """Records that a signal ends a training; a second one ends it at once."""

    def __init__(self) -> None:
        self.signal: int | None = None
        self.noted = 0.0

    def __enter__(self) -> "Interruption":
        self.previous = {n: signal.signal(n, self._note) for n in ending_signals()}
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self.previous.items():
            signal.signal(number, handler)

    def asked(self) -> bool:
        """Whether any process received a signal; the same result in all processes."""
        return any_process(self.signal is not None)

    def end(self, message: str) -> None:
        """End this step of the workflow because of the signal."""
        raise Interrupted(self.signal or signal.SIGTERM, message)

    def _note(self, number: int, _frame: FrameType | None) -> None:
        if self.signal is not None and time.monotonic() - self.noted > SAME:
            raise Interrupted(number)
        if self.signal is None:
            self.signal, self.noted = number, time.monotonic()
