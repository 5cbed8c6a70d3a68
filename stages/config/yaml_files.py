"""YAML files and the sections they hold; what is wrong becomes findings, a line each."""

import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from stages.config.findings import SECTION, describe
from stages.config.section import Section
from stages.config.yaml_text import parse_yaml
from stages.runtime.errors import suggest

S = TypeVar("S", bound=Section)


def read_options(path: Path, findings: list[str]) -> dict[str, Any] | None:
    """The options that a file has; None, with a finding, if it cannot be read or has no options."""
    try:
        content = parse_yaml(path.read_text(encoding="utf-8"))
    except OSError as error:
        findings.append(f"{path}: {error.strerror}")
    except UnicodeDecodeError as error:
        findings.append(f"{path}: not YAML: {error}")
    except ValueError as error:
        findings.append(f"{path}: {error}")
    else:
        if content is None:
            return {}
        if isinstance(content, dict):
            unnamed = [key for key in content if not isinstance(key, str)]
            if not unnamed:
                return content
            findings.append(f"{path}: {unnamed[0]!r}: needed the name of an option")
            return None
        findings.append(f"{path}: {SECTION}, found {content!r}")
    return None


def validate(
    place: str, options: Mapping[str, Any], section: type[S], findings: list[str]
) -> S | None:
    """The section of some options; None, with findings, if they are wrong."""
    try:
        return section.model_validate(dict(options))
    except ValidationError as error:
        findings += [_with_suggestion(line, section) for line in describe(place, error)]
    return None


def _with_suggestion(line: str, section: type[Section]) -> str:
    """Adds 'did you mean' to a misspelled option."""
    place, _, rest = line.partition(": ")
    option_path, _, finding = rest.partition(": ")
    if finding != "no such option":
        return line
    *path, option = option_path.split(".")
    options = _options(section, path)
    remedy = suggest(option, options, f"options here: {', '.join(options)}")
    return f"{place}: {option_path}: no such option; {remedy}"


def _options(section: type[Section], path: list[str]) -> list[str]:
    """The options that there are at a path of names."""
    kinds: list[type[Section]] = [section]
    for name in path:
        hints = [kind.model_fields[name].annotation for kind in kinds if name in kind.model_fields]
        if hints:  # else a key of a table of sections, or a number in a list of them
            members = (kind for hint in hints for kind in _members(hint))
            kinds = [kind for kind in members if issubclass(kind, Section)]
    return list(dict.fromkeys(name for kind in kinds for name in kind.model_fields))


def _members(hint: object) -> list[type]:
    """The classes of a hint: itself, or those of a union."""
    if isinstance(hint, type):
        return [hint]
    return [kind for member in typing.get_args(hint) for kind in _members(member)]
