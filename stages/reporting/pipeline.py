"""The steps behind an experiment: how long they took, on what, and a picture of who needs whom.

Times and memory are those that Snakemake measured when a step ran (its benchmark files), so they
are the same in every report until the step runs again; a step without any was not run here.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pandas as pd

from stages.config.section import Section
from stages.storage.files import read_json

BOX_WIDTH, BOX_HEIGHT, GAP_X, GAP_Y = 132, 42, 14, 24  # units of the picture
MARGIN = 4

Whose = Literal["own", "data", "other"]


class PipelineStep(Section):
    """A step, the steps that it needs, and where Snakemake put its times (a pattern each)."""

    name: str
    title: str
    owner: str  # experiment or data set
    needs: tuple[str, ...] = ()
    benchmarks: tuple[Path, ...] = ()
    facts: Path | None = None  # what a training wrote of its run


class Pipeline(Section):
    """All steps behind a report, each after those that it needs."""

    steps: tuple[PipelineStep, ...] = ()


@dataclass(frozen=True)
class Measured:
    """What the jobs of a step took together."""

    jobs: int
    seconds: float
    cpu_seconds: float
    memory: float | None  # MB, of the largest


def measure(step: PipelineStep) -> Measured | None:
    """What Snakemake measured of a step; None if it has not run it."""
    files = sorted({file for path in step.benchmarks for file in path.parent.glob(path.name)})
    if not files:
        return None
    rows = pd.concat([pd.read_csv(file, sep="\t", na_values="-") for file in files])
    memory = rows["max_rss"].max()
    return Measured(
        jobs=len(rows),
        seconds=float(rows["s"].sum()),
        cpu_seconds=float(rows["cpu_time"].sum()),
        memory=None if pd.isna(memory) else float(memory),
    )


def step_rows(pipeline: Pipeline) -> list[dict[str, str]]:
    """The rows of the table of times; the last one is their sum."""
    found = [(step, measure(step)) for step in pipeline.steps]
    rows = [
        {
            "step": step.title,
            "owner": step.owner,
            "jobs": str(measured.jobs),
            "time": duration(measured.seconds),
            "cpu": duration(measured.cpu_seconds),
            "memory": memory_text(measured.memory),
        }
        for step, measured in found
        if measured is not None
    ]
    all_measured = [measured for _, measured in found if measured is not None]
    known = [measured.memory for measured in all_measured if measured.memory is not None]
    total = {
        "step": "together",
        "owner": "",
        "jobs": str(sum(measured.jobs for measured in all_measured)),
        "time": duration(sum(measured.seconds for measured in all_measured)),
        "cpu": duration(sum(measured.cpu_seconds for measured in all_measured)),
        "memory": memory_text(max(known, default=None)),
    }
    return [*rows, total] if rows else []


def fact_rows(pipeline: Pipeline) -> tuple[list[str], list[tuple[str, list[str]]]]:
    """Heads (trainings) and rows (fact, of each training) of what models were made with."""
    recorded = {
        f"{step.owner}: {step.title}": read_json(step.facts)
        for step in pipeline.steps
        if step.facts is not None and step.facts.exists()
    }
    names = list(dict.fromkeys(name for facts in recorded.values() for name in facts))
    rows = [(name, [facts.get(name) or "-" for facts in recorded.values()]) for name in names]
    return list(recorded), rows


def duration(seconds: float) -> str:
    """Seconds as a person would say them."""
    whole = round(seconds)
    if whole < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def memory_text(megabytes: float | None) -> str:
    if megabytes is None:
        return "-"
    return f"{megabytes:.0f} MB" if megabytes < 1000 else f"{megabytes / 1000:.1f} GB"


def draw(pipeline: Pipeline, experiment: str) -> dict[str, Any]:
    """Boxes and lines of the picture, from top to bottom, for the template to draw."""
    steps = pipeline.steps
    rows, lanes = place(steps)
    found = {step.name: measure(step) for step in steps}
    longest = max((m.seconds for m in found.values() if m is not None), default=0) or 1
    trained = {step.owner for step in steps if step.facts is not None}  # experiments, not data sets
    boxes = []
    for step in steps:
        measured = found[step.name]
        left, top = _corner(rows[step.name], lanes[step.name])
        other: Whose = "other" if step.owner in trained else "data"
        boxes.append(
            {
                "x": left,
                "y": top,
                "title": step.title,
                "owner": step.owner,
                "whose": "own" if step.owner == experiment else other,
                "time": duration(measured.seconds) if measured else "not run here",
                "bar": round(BOX_WIDTH * measured.seconds / longest, 1) if measured else 0,
            }
        )
    ends = [(need, step.name) for step in steps for need in step.needs]
    return {
        "boxes": boxes,
        "lines": [_line(rows[a], lanes[a], rows[b], lanes[b]) for a, b in ends],
        "whose": list(dict.fromkeys(box["whose"] for box in boxes)),
        "box_width": BOX_WIDTH,
        "box_height": BOX_HEIGHT,
        "width": _corner(0, max(lanes.values()) + 1)[0] - GAP_X + MARGIN,
        "height": _corner(max(rows.values()) + 1, 0)[1] - GAP_Y + MARGIN,
    }


def _corner(row: int, lane: int) -> tuple[int, int]:
    return MARGIN + lane * (BOX_WIDTH + GAP_X), MARGIN + row * (BOX_HEIGHT + GAP_Y)


def _line(from_row: int, from_lane: int, to_row: int, to_lane: int) -> str:
    """The path from the foot of a box, down its lane, to the head of another."""
    x, y = _corner(from_row, from_lane)
    to_x, to_y = _corner(to_row, to_lane)
    x, to_x, y, bend = x + BOX_WIDTH // 2, to_x + BOX_WIDTH // 2, y + BOX_HEIGHT, to_y - GAP_Y
    middle = to_y - GAP_Y // 2
    return f"M{x} {y}V{bend}C{x} {middle} {to_x} {middle} {to_x} {to_y}"


def place(steps: Sequence[PipelineStep]) -> tuple[dict[str, int], dict[str, int]]:
    """Row (below all that it needs) and lane of each step.

    A step takes over a lane of what it needs, if no other did; else it opens the first free one. A
    lane is free once the last user of its last step is reached.
    """
    rows: dict[str, int] = {}
    for step in steps:
        rows[step.name] = 1 + max((rows[need] for need in step.needs), default=-1)
    until = {step.name: rows[step.name] for step in steps}
    for step in steps:
        for need in step.needs:
            until[need] = max(until[need], rows[step.name] - 1)
    lanes: dict[str, int] = {}
    taken: list[int] = []  # the last row in use of each lane
    open_lanes: dict[str, int] = {}  # of steps that no other has followed in their lane
    for step in sorted(steps, key=lambda step: rows[step.name]):
        inherited = [open_lanes[need] for need in step.needs if need in open_lanes]
        for need in step.needs:
            open_lanes.pop(need, None)
        free = [n for n, last in enumerate(taken) if last < rows[step.name]]
        lane = min(inherited) if inherited else min(free, default=len(taken))
        if lane == len(taken):
            taken.append(0)
        taken[lane] = until[step.name]
        lanes[step.name] = open_lanes[step.name] = lane
    return rows, lanes
