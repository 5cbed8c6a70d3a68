"""The command line of a step, made from the signature of its function.

    def run(samples: Path, masks: list[Path], config: Labels, workers: int = 1) -> None: ...

becomes `--samples PATH --masks PATH [PATH ...] --config JSON [--workers N]`. A section is given as
JSON text or as the path of a .json or .yaml file; a bool `x` is `--x` or `--no-x`.
"""

import argparse
import gc
import inspect
import logging
import signal
import sys
import types
import typing
from collections.abc import Callable, Sequence
from typing import Annotated, Any

from stages.config.findings import parse_section
from stages.config.section import Section
from stages.runtime.errors import InputError, Interrupted, ending_signals
from stages.runtime.foreign_errors import explain, printable

log = logging.getLogger(__name__)


class _PrintableFormatter(logging.Formatter):
    """Lines that hold no control characters of users' data."""

    def format(self, record: logging.LogRecord) -> str:
        return printable(super().format(record))


def main(run: Callable[..., None]) -> None:
    """Run a step from the command line; the user's mistakes are one line, not a traceback."""
    gc.freeze()  # modules stay: not looked through again and again, nor at the end
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    for handler in logging.getLogger().handlers:
        handler.setFormatter(_PrintableFormatter("%(message)s"))
    for number in ending_signals():
        signal.signal(number, _interrupted)
    arguments = vars(parser(run).parse_args())
    try:
        run(**arguments)
    except Interrupted as ended:
        log.error("%s", ended)
        sys.exit(ended.exit_code)
    except Exception as error:
        message = explain(error)
        if message is None:
            raise
        sys.exit(f"error: {message}")


def parser(run: Callable[..., None]) -> argparse.ArgumentParser:
    """The argument parser of a step's function."""
    module = inspect.getmodule(run)
    description = (inspect.getdoc(module) or "").partition("\n\n")[0]
    result = argparse.ArgumentParser(description=description, allow_abbrev=False)
    hints = typing.get_type_hints(run, include_extras=True)
    for name, parameter in inspect.signature(run).parameters.items():
        required = parameter.default is inspect.Parameter.empty
        option: dict[str, Any] = {"required": required}
        if not required:
            option["default"] = parameter.default
        option |= _kind(hints[name])
        result.add_argument(f"--{name.replace('_', '-')}", dest=name, **option)
    return result


def _kind(hint: Any) -> dict[str, Any]:
    """What argparse needs to know of a type."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is Annotated:
        return {"type": lambda text: _section_argument(hint, text), "metavar": "JSON"}
    if origin in (typing.Union, types.UnionType):
        # Without a value it is None: rules give what there may be none of.
        return {**_kind(next(kind for kind in arguments if kind is not type(None))), "nargs": "?"}
    if origin in (list, Sequence):
        return {"nargs": "*", **_kind(arguments[0])}
    if hint is bool:
        return {"action": argparse.BooleanOptionalAction}
    if origin is typing.Literal:
        return {"choices": list(arguments)}
    if isinstance(hint, type) and issubclass(hint, Section):
        return {"type": lambda text: _section_argument(hint, text), "metavar": "JSON"}
    return {"type": hint, "metavar": hint.__name__.upper()}


def _section_argument(section: Any, text: str) -> Section:
    try:
        return parse_section(section, text)
    except (InputError, OSError) as error:
        raise argparse.ArgumentTypeError(explain(error)) from None


def _interrupted(number: int, _frame: types.FrameType | None) -> None:
    """Ends a step at once: files half-written are removed on the way out."""
    raise Interrupted(number)
