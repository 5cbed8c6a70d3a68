"""How the members of a comparison differ: in scores, in options, in size and in time."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from stages.config.product import FILES
from stages.metrics.bootstrap import mean_interval
from stages.reporting.pipeline import duration, measure, read_pipeline
from stages.storage.files import read_json
from stages.storage.steps import read_steps
from stages.storage.weights import count_weights

UNSET, NO_STEP = "default", "no such step"
SHARED = ("shapes", "samples", "images", "text_features")  # of a data set


class Difference(NamedTuple):
    """Mean IoU of a segmentor less that of the first, in percent, with its 95 % interval."""

    split: str
    name: str
    mean: float
    low: float
    high: float
    expressions: int

    @property
    def is_clear(self) -> bool:
        """Whether the interval leaves out 0."""
        return self.low > 0 or self.high < 0


def paired_differences(split: str, series: Mapping[str, pd.DataFrame]) -> list[Difference]:
    """Of each segmentor to the first, on the same expressions; images are resampled.

    Resampling the differences leaves out what both have in common: hard images are hard for both.
    """
    names = list(series)
    first = series[names[0]].set_index("expression")
    differences = []
    for name in names[1:]:
        other = series[name].set_index("expression")
        both = first.join(other["iou"].rename("other"), how="inner")
        if both.empty:
            continue
        values = 100 * (both["other"] - both["iou"]).to_numpy(np.float64)
        low, high = mean_interval(values, both["image"])
        differences.append(Difference(split, name, float(values.mean()), low, high, len(both)))
    return differences


def option_rows(steps: Path) -> tuple[list[str], list[tuple[str, list[str]]]]:
    """The members of a comparison, and the options in which they differ, with the value of each.

    Options are those of the steps behind each segmentor, as steps.yaml records them: without those
    that have their default.
    """
    page = read_steps(steps)
    made = {step["place"]: step for step in page["steps"]}
    options = {name: _options(place, made) for name, place in _segmentors(page).items()}
    keys = sorted(
        {(kind, key) for member in options.values() for kind in member for key in member[kind]}
    )
    rows = [
        (f"{kind}.{key}", [_value(member, kind, key) for member in options.values()])
        for kind, key in keys
    ]
    return list(options), [(name, values) for name, values in rows if len(set(values)) > 1]


def model_rows(steps: Path, results: Path) -> list[dict[str, str]]:
    """Weights, machine and time of the segmentor of each member.

    The time is that of all jobs behind it, also those that members share.
    """
    page = read_steps(steps)
    made = {step["place"]: step for step in page["steps"]}
    by_place = {folder: step for step in read_pipeline(steps) for folder in map(str, step.folders)}
    rows = []
    for name, place in _segmentors(page).items():
        behind = _behind(place, made)
        measured = [measure(by_place[str(results / other)]) for other in behind]
        seconds = [m.seconds for m in measured if m is not None]
        record = results / place / "run.json"
        rows.append(
            {
                "name": name,
                "weights": f"{count_weights(results / place / FILES['segmentor']):,}",
                "device": str(read_json(record).get("device", "-")) if record.exists() else "-",
                "time": duration(sum(seconds)) if seconds else "not run here",
            }
        )
    return rows


def _segmentors(page: Mapping[str, Any]) -> dict[str, str]:
    """The place of the segmentor of each member."""
    prefix = "segmentor/"
    links: dict[str, str] = page["links"]
    return {
        name.removeprefix(prefix): place for name, place in links.items() if name.startswith(prefix)
    }


def _behind(place: str, made: Mapping[str, Any]) -> list[str]:
    """A product and all that it is made from, each once."""
    places = [place]
    for source in made[place]["sources"]:
        places += [other for other in _behind(source, made) if other not in places]
    return list(dict.fromkeys(places))


def _options(place: str, made: Mapping[str, Any]) -> dict[str, dict[str, str]]:
    """The options of each step behind a segmentor, by the kind of its product."""
    options: dict[str, dict[str, str]] = {}
    for other in _behind(place, made):
        kind = other.split("/")[1]
        if kind not in SHARED:
            options[kind] = _flat(made[other]["options"])
    return options


def _value(member: Mapping[str, Mapping[str, str]], kind: str, key: str) -> str:
    return member[kind].get(key, UNSET) if kind in member else NO_STEP


def _flat(options: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    flat: dict[str, str] = {}
    for key, value in options.items():
        name = f"{prefix}{key}"
        flat |= _flat(value, f"{name}.") if isinstance(value, Mapping) else {name: _text(value)}
    return flat


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
