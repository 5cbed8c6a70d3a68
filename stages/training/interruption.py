"""End a training by a signal: after the current step, with its state saved."""

import signal
import time
from types import FrameType

from stages.runtime.distributed import any_process
from stages.runtime.errors import Interrupted

SAME = 2.0  # seconds within which a repeated signal (torchrun sends one, too) counts as one


class Interruption:
    """Records SIGTERM and Ctrl-C while a training runs; a second one ends it at once."""

    def __init__(self) -> None:
        self.signal: int | None = None
        self.noted = 0.0

    def __enter__(self) -> "Interruption":
        signals = (signal.SIGTERM, signal.SIGINT)
        self.previous = {number: signal.signal(number, self._note) for number in signals}
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
