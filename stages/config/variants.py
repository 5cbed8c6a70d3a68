"""Experiments made from others: `base`, `sweep`, and options of the command line.

All work on the options as they are written, before they are checked, so that what is inherited or
set is checked like what a file says.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from typing import Any

from stages.config.yaml_text import parse_yaml

Options = dict[str, Any]
NOT_INHERITED = ("base", "sweep", "expected")  # `expected` is of the base's own results


@dataclass(frozen=True)
class Variant:
    """One combination of a sweep: the value of each option that is varied, by its path."""

    name: str
    values: Mapping[str, Any]


def merge(base: Options, changes: Options) -> Options:
    """The options of `base` with changes, section by section.

    A section that names another `model` starts anew: the options of the two are not the same.
    """
    merged = dict(base)
    for name, value in changes.items():
        old = merged.get(name)
        if isinstance(old, dict) and isinstance(value, dict) and _is_same_kind(old, value):
            merged[name] = merge(old, value)
        else:
            merged[name] = value
    return merged


def _is_same_kind(old: Options, new: Options) -> bool:
    return "model" not in new or new["model"] == old.get("model")


def inherit(given: Mapping[str, Options], name: str) -> Options:
    """The options of an experiment with those of its bases.

    Raises ValueError with the finding if a base is unknown or the bases never end.
    """
    chain = [name]
    while (base := given[chain[-1]].get("base")) is not None:
        if not isinstance(base, str):
            raise ValueError(f"base: needed the name of one experiment, found {base!r}")
        if base not in given:
            raise ValueError(f"base: {base!r} is not known")
        if base in chain:
            raise ValueError(f"base: {' -> '.join([*chain, base])} never ends")
        chain.append(base)
    options: Options = {}
    for ancestor in reversed(chain):
        own = given[ancestor]
        if own.get("dataset", options.get("dataset")) != options.get("dataset") or (
            "published" in own
        ):
            options.pop("published", None)  # of another data set, or of another row
        kept = own if ancestor == name else {k: own[k] for k in own.keys() - {*NOT_INHERITED}}
        options = merge(options, kept)
    return options


def set_option(options: Options, path: str, value: Any) -> Options:
    """The options with one of them set, given by its path (`segmentor.epochs`)."""
    first, _, rest = path.partition(".")
    if not rest:
        return merge(options, {first: value})
    inner = options.get(first)
    return options | {first: set_option(inner if isinstance(inner, dict) else {}, rest, value)}


def parse_changes(text: str) -> dict[str, Any]:
    """Options by their paths, from `segmentor.epochs=5 stage1.batch_size=24`.

    A value is YAML: a number, a word, a list. Raises ValueError for anything else.
    """
    changes: dict[str, Any] = {}
    for assignment in text.split():
        path, equals, value = assignment.partition("=")
        if not equals or not re.fullmatch(r"\w+(\.\w+)*", path):
            raise ValueError(f"{assignment!r}; needed option=value, as in segmentor.epochs=5")
        if path in changes:
            raise ValueError(f"{path} stands twice; needed each option once")
        try:
            changes[path] = parse_yaml(value)
        except ValueError as error:
            raise ValueError(f"{assignment!r}: {error}") from None
    return changes


def combinations(name: str, sweep: Any) -> Iterator[Variant]:
    """The variants of a sweep, in the order of their values; the first option varies slowest.

    Raises ValueError for what is no mapping of options to lists of values.
    """
    if not isinstance(sweep, dict) or not sweep:
        raise ValueError(f"sweep: needed options with lists of values, found {sweep!r}")
    for path, values in sweep.items():
        if not isinstance(path, str):
            raise ValueError(f"sweep: {path!r} is no option; needed one such as segmentor.epochs")
        if not isinstance(values, list) or not values:
            raise ValueError(f"sweep.{path}: needed a list of values, found {values!r}")
    last = [path.rpartition(".")[2] for path in sweep]
    labels = [
        short if last.count(short) == 1 else path.replace(".", "_")
        for path, short in zip(sweep, last, strict=True)
    ]
    names: set[str] = set()
    for values in product(*sweep.values()):
        parts = [f"{label}_{_plain(value)}" for label, value in zip(labels, values, strict=True)]
        variant = Variant("_".join([name, *parts]), dict(zip(sweep, values, strict=True)))
        if variant.name in names:
            raise ValueError(
                f"sweep: two variants are called {variant.name}; needed values whose letters and"
                " digits differ"
            )
        names.add(variant.name)
        yield variant


def _plain(value: Any) -> str:
    """A value as a part of a name."""
    return re.sub(r"\W+", "_", str(value)).strip("_")
