"""Collapsed results: empty or whole masks, counted by each step and told in one line.

A step counts while it computes and writes the counts beside its output, as `<output>.run.json`. The
page and the end of a run tell what is there. A step that learns from such results refuses them if
all are empty, unless `on_collapse: warn` is set.
"""

import json
import logging
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from stages.config.section import OnCollapse
from stages.runtime.errors import InputError
from stages.storage.files import write_json

Kind = Literal[
    "response maps",
    "labels",
    "pseudo masks",
    "predictions",  # of a segmentor
    "predictions by stage 1",
    "zero-shot predictions",
]
NOTABLE = 0.1  # of the results: fewer collapsed ones are counted, and not told
FEW_STEPS = 50  # of a training: it has hardly moved from its initial weights
ENDING = ".run.json"
OF_SPLIT = re.compile(r"-(\w+)-\d+-of-\d+\.run\.json$")

# What it means if all are so, and the usual reasons.
OF_STAGE1 = (
    "stage 1 learned nothing",
    "too few steps (stage1.epochs), a learning rate that is too high, images or words that its CLIP"
    " does not know",
)
MEANINGS: dict[tuple[str, str], tuple[str, str]] = {
    ("response maps", "empty"): OF_STAGE1,
    ("predictions by stage 1", "empty"): OF_STAGE1,
    ("labels", "empty"): (
        "no pixel is surely of an object",
        "empty response maps, or labels.foreground_threshold is too high",
    ),
    ("pseudo masks", "empty"): (
        "there is nothing to learn from",
        "empty response maps, or propagation.background_threshold is too high",
    ),
    ("pseudo masks", "whole"): (
        "the walk spreads everywhere",
        "an affinity network that learned nothing (affinity.epochs), or"
        " propagation.background_threshold is too low",
    ),
    ("predictions", "empty"): (
        "the segmentor finds nothing",
        "too few steps (segmentor.epochs), or pseudo masks that are empty",
    ),
    ("predictions", "whole"): (
        "the segmentor takes everything",
        "too few steps (segmentor.epochs), or pseudo masks that are whole",
    ),
}


@dataclass
class Tally:
    """How many results of a kind there are, and how many of them are empty or whole images."""

    kind: Kind
    total: int = 0
    collapsed: dict[str, int] = field(default_factory=lambda: {"empty": 0, "whole": 0})

    def add(self, area: int, pixels: int) -> None:
        """Count a mask by its area."""
        self.total += 1
        self.collapsed["empty"] += not area
        self.collapsed["whole"] += area == pixels

    def merge(self, other: "Tally") -> None:
        self.total += other.total
        for name, count in other.collapsed.items():
            self.collapsed[name] = self.collapsed.get(name, 0) + count

    def conclude(self, output: Path) -> None:
        """Write the counts beside an output, and log what is notable."""
        write_json(
            output.with_suffix(ENDING),
            {"kind": self.kind, "total": self.total, **self.collapsed},
        )
        for line in self.warnings():
            logging.getLogger(__name__).warning("warning: %s", line)

    def warnings(self, split: str = "") -> list[str]:
        """A line for each way in which many of them have collapsed."""
        of_split = f" of {split}" if split else ""
        lines = []
        for name, count in self.collapsed.items():
            meaning = MEANINGS.get((self.kind, name))
            if meaning is None or not count or count < NOTABLE * self.total:
                continue
            what = f"{count:,} of {self.total:,} {self.kind}{of_split} are {name}"
            if name == "whole":
                what += " images"
            claim = f": {meaning[0]}" if count == self.total else ""
            lines.append(f"{what}{claim}; usual reasons: {meaning[1]}")
        return lines

    def require_some(self, place: object, on_collapse: OnCollapse) -> None:
        """Raises InputError if all are empty and a training would learn from them."""
        if self.total and self.collapsed["empty"] == self.total and on_collapse == "stop":
            raise InputError(
                f"{place}: {self.warnings()[0]}. To go on nevertheless: execution: {{default:"
                " {on_collapse: warn}}"
            )


def few_steps(steps: int) -> str | None:
    """A line for a training of few steps; None for others."""
    if steps >= FEW_STEPS:
        return None
    return f"{steps} steps of training: hardly more than the initial weights; raise epochs"


def collapse_warnings(folders: Iterable[Path]) -> list[str]:
    """What the steps that made some folders of results counted, a line each; shards together."""
    lines: list[str] = []
    for folder in folders:
        tallies: dict[str, Tally] = {}
        for path in sorted(folder.glob(f"*{ENDING}")):
            record = _read(path)
            match = OF_SPLIT.search(path.name)
            if match is None or "kind" not in record:
                continue
            counts = {name: int(record.get(name, 0)) for name in ("empty", "whole")}
            tally = Tally(record["kind"], int(record["total"]), counts)
            tallies.setdefault(match[1], Tally(tally.kind)).merge(tally)
        for split, tally in tallies.items():
            lines += tally.warnings(split)
        steps = _read(folder / "run.json").get("steps")
        if steps is not None and (line := few_steps(int(steps))) is not None:
            lines.append(f"{folder.parent.name.replace('_', ' ')}: {line}")
    return list(dict.fromkeys(lines))


def _read(path: Path) -> dict[str, Any]:
    """A record; empty where there is none, or where it is damaged: it only informs."""
    try:
        record = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return record if isinstance(record, dict) else {}
