"""What is wrong with options, a line each: place, field, finding, remedy."""

import re
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError
from pydantic_core import ErrorDetails

from stages.config.section import Section
from stages.config.yaml_text import parse_yaml
from stages.runtime.errors import InputError

SECTION = "needed a section, of options and their values"
NEEDED = {  # by the kind of a finding: what pydantic says in other words
    "model_type": SECTION,
    "dict_type": SECTION,
    "tuple_type": "needed a list",
    "too_short": "needed a list of at least {min_length}",
}
# What a validator of a whole section says of one of its options: option, finding and remedy.
NAMED = re.compile(r"([a-z]\w*(?:\.\w+)*): (.*)")


def parse_section(section: Any, text: str) -> Section:
    """A section, or one of a union, from JSON text or from the .json or .yaml file of that path."""
    place = "options"
    if text.endswith((".json", ".yaml", ".yml")):
        place, text = text, Path(text).expanduser().read_text(encoding="utf-8")
    try:
        return TypeAdapter[Section](section).validate_python(parse_yaml(text))
    except ValidationError as error:
        raise InputError("\n".join(describe(place, error))) from None
    except ValueError as error:
        raise InputError(f"{place}: {error}") from None


def describe(place: str, error: ValidationError) -> list[str]:
    """A line for each finding of a validation: place, field, finding, remedy."""
    return [_line(place, finding) for finding in error.errors()]


def _line(place: str, finding: ErrorDetails) -> str:
    names = [str(item) for item in finding["loc"]]
    kind, value = finding["type"], finding["input"]
    message = finding["msg"].removeprefix("Value error, ")
    named = NAMED.match(message)
    if kind == "extra_forbidden":
        message, value = "no such option", {}
    elif kind == "unknown_model" and isinstance(value, dict):
        names.append("model")
        value = value.get("model")
    elif kind in NEEDED:
        message = NEEDED[kind].format(**finding.get("ctx", {}))
    elif kind == "value_error" and named:
        names.append(named[1])
        message = named[2]
    if not isinstance(value, dict | Section):
        message += f", found {'nothing' if value is None else repr(value)}"
    field = ".".join(name for name in names if not name.startswith("<"))  # no tags of unions
    return ": ".join(item for item in (place, field, message) if item)
