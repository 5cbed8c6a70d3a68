"""YAML text as plain values: no key twice, and one kind of error for all that is no YAML."""

from collections.abc import Hashable
from contextlib import suppress
from typing import Any

import yaml

try:
    from yaml import CSafeLoader as LibyamlLoader
except ImportError:  # PyYAML was built without libyaml
    from yaml import SafeLoader as LibyamlLoader  # type: ignore[assignment]

MERGE = "tag:yaml.org,2002:merge"
DEEPEST = 200  # libyaml has no limit, and the stack has one


class _EachKeyOnce(yaml.constructor.SafeConstructor):
    """PyYAML's safe values, which keep the last of two equal keys, made to refuse them."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        lines: dict[tuple[str, str], int] = {}
        for key, _ in node.value:
            if key.tag == MERGE or not isinstance(key, yaml.ScalarNode):
                continue
            name, line = (key.tag, key.value), key.start_mark.line + 1
            if name in lines:
                raise ValueError(f"{key.value} stands twice, lines {lines[name]} and {line}")
            lines[name] = line
        return super().construct_mapping(node, deep)


class _Loader(_EachKeyOnce, yaml.SafeLoader):
    """In Python: its errors show the text."""


class _FastLoader(_EachKeyOnce, LibyamlLoader):
    """Ten times as fast: every command reads all experiments."""


def parse_yaml(text: str) -> Any:
    """The value of a YAML text. Raises ValueError, in one line, for anything that is none."""
    if _depth_at_most(text) < DEEPEST:
        with suppress(yaml.YAMLError, LookupError, AttributeError, TypeError):  # told below
            return yaml.load(text, _FastLoader)  # a safe loader, with one check more
    try:
        return yaml.load(text, _Loader)
    except yaml.YAMLError as error:
        raise ValueError(f"not YAML: {' '.join(str(error).split())}") from None
    except RecursionError:
        raise ValueError("not YAML: nested too deep") from None
    except (LookupError, AttributeError, TypeError) as error:  # of values of a named type
        raise ValueError(f"not YAML: a value that its tag cannot hold ({error})") from None


def _depth_at_most(text: str) -> int:
    """More than the values of a text can be nested: by marks, or by being indented."""
    indents = (len(line) - len(line.lstrip(" ")) for line in text.splitlines())
    return sum(text.count(mark) for mark in "[{?-") + max(indents, default=0)
