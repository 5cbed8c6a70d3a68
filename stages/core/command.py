"""The command line of a step, made from the signature of its function.

    def run(samples: Path, masks: list[Path], config: Labels, workers: int = 1) -> None: ...

becomes `--samples PATH --masks PATH [PATH ...] --config JSON [--workers N]`. A section is given as
JSON text or as the path of a .json or .yaml file.
"""

import argparse
import inspect
import logging
import os
import signal
import sys
import types
import typing
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import TypeAdapter, ValidationError

from stages.core.errors import InputError, Interrupted
from stages.core.section import Section

log = logging.getLogger(__name__)


def main(run: Callable[..., None]) -> None:
    """Run a step from the command line; the user's mistakes are one line, not a traceback."""
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    signal.signal(signal.SIGTERM, _interrupted)
    signal.signal(signal.SIGINT, _interrupted)
    arguments = vars(parser(run).parse_args())
    try:
        run(**arguments)
    except (InputError, FileNotFoundError) as error:
        sys.exit(f"error: {error}")
    except OSError as error:
        if error.errno is None:
            raise
        place = f"{error.filename}: " if error.filename else ""
        sys.exit(f"error: {place}{os.strerror(error.errno)}")
    except Interrupted as ended:
        log.error("%s", ended)
        sys.exit(ended.exit_code)


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


def parse_section(section: Any, text: str) -> Section:
    """A section, or one of a union, from JSON text or from the .json or .yaml file of that path."""
    place = "options"
    if text.endswith((".json", ".yaml")):
        place, text = text, Path(text).read_text()
    try:
        return TypeAdapter[Section](section).validate_python(yaml.safe_load(text))
    except ValidationError as error:
        raise InputError("\n".join(describe(place, error))) from None


def describe(place: str, error: ValidationError) -> list[str]:
    """A line for each finding of a validation: place, field, finding, remedy."""
    lines = []
    for finding in error.errors():
        names = [str(part) for part in finding["loc"]]
        message = finding["msg"].removeprefix("Value error, ")
        if finding["type"] == "extra_forbidden":
            message = "no such option"
        elif finding["type"] == "unknown_model":
            names.append("model")
            message += f", found {finding['input'].get('model')!r}"
        elif not isinstance(finding["input"], dict):
            message += f", found {finding['input']!r}"
        field = ".".join(name for name in names if not name.startswith("<"))  # no tags of unions
        lines.append(": ".join(part for part in (place, field, message) if part))
    return lines


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
    if origin is typing.Literal:
        return {"choices": list(arguments)}
    if isinstance(hint, type) and issubclass(hint, Section):
        return {"type": lambda text: _section_argument(hint, text), "metavar": "JSON"}
    return {"type": hint, "metavar": hint.__name__.upper()}


def _section_argument(section: Any, text: str) -> Section:
    try:
        return parse_section(section, text)
    except (InputError, OSError) as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _interrupted(number: int, _frame: types.FrameType | None) -> None:
    """Ends a step at once: files half-written are removed on the way out."""
    raise Interrupted(number)
