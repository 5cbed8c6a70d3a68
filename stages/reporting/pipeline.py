"""The steps behind a page: how long they took, on what, and a graph of which needs which.

All of it is read from steps.yaml and from what lies beside the products that it names: times and
memory as Snakemake measured them when a step ran (its benchmark files), and the provenance of
models. A step without a benchmark was not run here.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pandas as pd

from stages.reporting.curves import SCORES
from stages.storage.files import read_json
from stages.storage.steps import read_steps

BOX_WIDTH, BOX_HEIGHT, GAP_X, GAP_Y = 132, 42, 14, 24  # units of the graph
MARGIN = 4
DATA = ("shapes", "samples", "images", "text_features")  # of a data set, whatever uses them
# Steps that score are one box: there is a product for each thing that is scored.
TOGETHER = {"rows": "evaluate", "scores": "score"}

Owner = Literal["own", "data", "other"]


@dataclass(frozen=True)
class PipelineStep:
    """A step behind a page, with the folders of what it made."""

    name: str
    title: str
    owner: Owner
    needs: tuple[str, ...]
    folders: tuple[Path, ...]

    @property
    def provenance(self) -> Path:
        """What a training, or an import, wrote of its run."""
        return self.folders[0] / "run.json"


def read_pipeline(steps: Path) -> list[PipelineStep]:
    """The steps of a steps.yaml, each after those that it needs."""
    page = read_steps(steps)
    results = steps.absolute().parents[3]  # of work/report/<name>-<digest>/steps.yaml
    own = set(page["links"].values())
    labels = {place: label for label, place in page["links"].items()}
    names = {step["place"]: _name(step) for step in page["steps"]}
    needs = direct_needs({step["place"]: step["sources"] for step in page["steps"]})
    grouped: dict[str, list[dict[str, Any]]] = {}
    for step in page["steps"]:
        grouped.setdefault(names[step["place"]], []).append(step)
    boxes = {
        name: PipelineStep(
            name,
            _title(members[0], labels),
            _owner(members[0]["place"], own),
            tuple(dict.fromkeys(names[need] for step in members for need in needs[step["place"]])),
            tuple(results / step["place"] for step in members),
        )
        for name, members in grouped.items()
    }
    return _in_order(boxes)


def _in_order(steps: Mapping[str, PipelineStep]) -> list[PipelineStep]:
    """Each after those that it needs: steps that are one box may stand before some of these."""
    ordered: dict[str, PipelineStep] = {}

    def visit(name: str) -> None:
        for need in steps[name].needs:
            if need not in ordered:
                visit(need)
        ordered[name] = steps[name]

    for name in steps:
        visit(name)
    return list(ordered.values())


def _kind(place: str) -> str:
    return place.split("/")[1]


def _name(step: Mapping[str, Any]) -> str:
    return TOGETHER.get(_kind(step["place"]), step["place"])


def _title(step: Mapping[str, Any], labels: Mapping[str, str]) -> str:
    """The name of a step; of a prediction, which model's it is too."""
    title = str(step["step"])
    if _kind(step["place"]) == "predictions" and step["place"] in labels:
        title += f" {labels[step['place']].rpartition('/')[2]}"
    return title.replace("_", " ")


def _owner(place: str, own: set[str]) -> Owner:
    kind = _kind(place)
    if kind in DATA:
        return "data"
    return "own" if kind in TOGETHER or place in own else "other"


def direct_needs(sources: Mapping[str, Sequence[str]]) -> dict[str, list[str]]:
    """What each thing is made from, without what comes to it through another of its sources.

    `sources` has each thing after all that it is made from.
    """
    behind: dict[str, set[str]] = {}  # all that it is made from
    for name, own in sources.items():
        behind[name] = {*own}.union(*(behind[source] for source in own))
    return {
        name: [need for need in own if not any(need in behind[source] for source in own)]
        for name, own in sources.items()
    }


@dataclass(frozen=True)
class Measured:
    """What the jobs of a step took together."""

    jobs: int
    seconds: float
    cpu_seconds: float
    memory: float | None  # MB, of the largest


def measure(step: PipelineStep) -> Measured | None:
    """What Snakemake measured of a step; None if it has not run it."""
    files = sorted(file for folder in step.folders for file in folder.glob("*.tsv"))
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


def step_rows(pipeline: Sequence[PipelineStep]) -> list[dict[str, str]]:
    """The rows of the table of times; the last one is their sum."""
    measurements = [(step, measure(step)) for step in pipeline]
    rows = [
        {
            "step": step.title,
            "owner": step.owner,
            "jobs": str(measured.jobs),
            "time": duration(measured.seconds),
            "cpu": duration(measured.cpu_seconds),
            "memory": memory_text(measured.memory),
        }
        for step, measured in measurements
        if measured is not None
    ]
    all_measured = [measured for _, measured in measurements if measured is not None]
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


def provenance_rows(
    pipeline: Sequence[PipelineStep],
) -> tuple[list[str], list[tuple[str, list[str]]]]:
    """Heads (trainings) and rows (an entry, of each training) of what models were made with."""
    recorded = {
        step.title if step.owner == "own" else f"{step.title}, upper bound": read_json(
            step.provenance
        )
        for step in pipeline
        if step.provenance.exists()
    }
    names = list(dict.fromkeys(name for record in recorded.values() for name in record))
    rows = [
        (name, [_entry(name, record.get(name)) for record in recorded.values()]) for name in names
    ]
    return list(recorded), rows


def _entry(name: str, value: Any) -> str:
    if name == "validation" and value:
        best = f"{SCORES[value['metric']]} {100 * value['best_value']:.1f} %"
        kept = value["kept_epoch"]
        return f"{best} on {value['split']} after epoch {value['best_epoch']}; epoch {kept} kept"
    return str(value or "-")


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


def draw(steps: Sequence[PipelineStep]) -> dict[str, Any]:
    """Boxes and lines of the graph, from top to bottom, for the template to draw."""
    rows, lanes = place(steps)
    measurements = {step.name: measure(step) for step in steps}
    longest = max((m.seconds for m in measurements.values() if m is not None), default=0) or 1
    boxes = []
    for step in steps:
        measured = measurements[step.name]
        left, top = _corner(rows[step.name], lanes[step.name])
        boxes.append(
            {
                "name": step.name,
                "x": left,
                "y": top,
                "title": step.title,
                "owner": step.owner,
                "time": duration(measured.seconds) if measured else "not run here",
                "bar": round(BOX_WIDTH * measured.seconds / longest, 1) if measured else 0,
            }
        )
    ends = [(need, step.name) for step in steps for need in step.needs]
    return {
        "boxes": boxes,
        "lines": [_line(rows[a], lanes[a], rows[b], lanes[b]) for a, b in ends],
        "owners": list(dict.fromkeys(box["owner"] for box in boxes)),
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
