"""How the command speaks: results on stdout, everything else on stderr, mistakes in one line."""

import errno
import logging
import os
import signal
import types
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import typer
from rich.console import Console
from typer.core import TyperGroup

from stages.runtime.errors import ending_signals
from stages.runtime.foreign_errors import explain, printable

USER_ERROR = 1
PIPED_WIDTH = 200  # characters a line where no terminal says how many there are


class _Console(Console):
    """rich's, which ends without a word where nobody reads any more."""

    def on_broken_pipe(self) -> None:
        with suppress(SystemExit):
            super().on_broken_pipe()  # what Python writes at its end goes nowhere
        raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE), "output")


def _console(stderr: bool) -> Console:
    console = _Console(stderr=stderr, highlight=False, soft_wrap=True)
    if not console.is_terminal:
        console.width = PIPED_WIDTH
    return console


out, notes = _console(stderr=False), _console(stderr=True)


class Verbs(TyperGroup):
    """The command: what a user gave wrongly is one line and exit code 1, never a traceback."""

    def list_commands(self, ctx: Any) -> list[str]:
        return list(self.commands)  # in the order of a day's work, not of the alphabet

    def invoke(self, ctx: Any) -> Any:
        with _quiet():
            try:
                return super().invoke(ctx)
            except Exception as error:
                message = explain(error)
                if message is None:
                    raise
                fail(message)


@contextmanager
def _quiet() -> Iterator[None]:
    """No warnings of libraries, on which no user of the command can act; SIGTERM is Ctrl-C.

    So is that the terminal was closed.
    """
    ending = [number for number in ending_signals() if number != signal.SIGINT]
    before = {number: signal.signal(number, _terminated) for number in ending}
    logging.disable(logging.INFO)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(logging.NOTSET)
        for number, handler in before.items():
            signal.signal(number, handler)


def tell_error(message: str) -> None:
    """One mistake of the user, a line."""
    notes.print(f"error: {printable(message)}", markup=False, style="red")


def fail(message: str) -> None:
    """One mistake of the user, and the end."""
    tell_error(message)
    raise typer.Exit(USER_ERROR)


def _terminated(_signal: int, _frame: types.FrameType | None) -> None:
    """End the command like Ctrl-C: files half-written are removed on the way out."""
    raise KeyboardInterrupt
