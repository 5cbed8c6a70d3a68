"""What is wrong with options, a line each: place, field, finding, remedy."""

from pathlib import Path
from typing import Any

import yaml
from pydantic import TypeAdapter, ValidationError

from stages.config.section import Section
from stages.runtime.errors import InputError


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
