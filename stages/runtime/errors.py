"""The errors that are shown without a traceback."""

import difflib
import signal
from collections.abc import Iterable

# Ctrl-C, SIGTERM of a cluster that wants its node back, and that the terminal was closed.
ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class InputError(ValueError):
    """Something the user gave is wrong: says where, what was found and what is needed."""


class Interrupted(KeyboardInterrupt):
    """A signal ended the step: one of `ending_signals`."""

    def __init__(self, number: int, message: str = "nothing half-written is left") -> None:
        super().__init__(f"ended by {signal.Signals(number).name}; {message}")
        self.exit_code = 128 + number  # as shells have it; whatever is not 0 is tried again


def ending_signals() -> tuple[signal.Signals, ...]:
    """Those that end work in order: ENDING, without the end of a terminal under nohup."""
    is_ignored = signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    return tuple(number for number in ENDING if number != signal.SIGHUP or not is_ignored)


def suggest(name: str, known: Iterable[str], otherwise: str) -> str:
    """The remedy for a name that is not known: the closest one that is, else `otherwise`."""
    close = difflib.get_close_matches(name, known, n=1)
    return f"did you mean {close[0]}?" if close else otherwise
