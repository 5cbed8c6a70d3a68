"""Which split an object is in, and which splits samples have."""

from collections.abc import Iterable
from pathlib import Path
from typing import Literal

from stages.runtime.errors import suggest
from stages.storage.files import read_json

SplitRule = Literal["refer", "exact"]  # see in_split


def in_split(split: str, wanted: str, rule: SplitRule) -> bool:
    """Whether an object of `split` is in the `wanted` split.

    By REFER's rule, tests are matched by letter (a ref of testAB is in testA and in testB) and
    `test` by substring, all other names exactly. By the exact rule all names are.
    """
    if rule == "exact":
        return split == wanted
    if wanted in ("testA", "testB", "testC"):
        return wanted[-1] in split
    if wanted == "test":
        return "test" in split
    return split == wanted


def missing_split(samples: Path, wanted: Iterable[str]) -> str | None:
    """A line for a split that no object of `samples` (samples.json) is in, or None."""
    about = read_json(samples)
    known = about["splits"]
    for split in wanted:
        if not any(in_split(name, split, about["split_rule"]) for name in known):
            remedy = suggest(split, known, f"known: {', '.join(known)}")
            return f"{split!r} is not in the data; {remedy}"
    return None
