"""What makes a result what it is: the options of a step, its version, and the digest of both.

A *recipe* holds the options that differ from their defaults, so that an option that a new version
adds does not change the digest of old results. Paths are not in it: files count by their content
(stages/config/contents.py).
"""

import hashlib
import json
import re
import typing
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, Literal

from stages.config.section import Section

DIGEST_LENGTH = 12  # hexadecimal digits: with a million results, two are alike once in 560 cases
PROJECT = Path(__file__).parents[2]
VERSION = re.compile(r"^VERSION = (\d+)", re.MULTILINE)


def recipe(section: Section, *left_out: str) -> dict[str, Any]:
    """The options of a section that differ from their defaults, as JSON values, without paths.

    `left_out` names options that are no part of it. Sections within it are recipes too. An option
    that tells kinds of sections apart (`model` of a segmentor) is always there.
    """
    values: dict[str, Any] = {}
    for name, field in type(section).model_fields.items():
        value = getattr(section, name)
        if isinstance(value, Path) or name in left_out:
            continue
        if isinstance(value, Section):
            values[name] = recipe(value)
        elif _tells_kinds_apart(field.annotation) or value != field.get_default():
            values[name] = value
    return typing.cast(dict[str, Any], json.loads(json.dumps(values)))


def _tells_kinds_apart(annotation: Any) -> bool:
    return typing.get_origin(annotation) is Literal and len(typing.get_args(annotation)) == 1


def flatten(options: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Options by their paths, as in `segmentor.epochs`."""
    flat: dict[str, Any] = {}
    for name, value in options.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{prefix}{name}.")
        else:
            flat[f"{prefix}{name}"] = value
    return flat


def digest(content: Mapping[str, Any]) -> str:
    """The digest of JSON values, whatever the order of their keys."""
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:DIGEST_LENGTH]


@cache
def step_version(step: str, project: Path = PROJECT) -> int:
    """The number `VERSION` in the module of a step, read without importing it (and torch)."""
    module = next(
        path
        for package in ("stages", "irnet")
        if (path := project / package / f"{step}.py").exists()
    )
    match = VERSION.search(module.read_text())
    assert match is not None, f"{module}: needed a line VERSION = <number>"
    return int(match[1])
