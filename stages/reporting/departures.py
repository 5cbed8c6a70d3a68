"""The options of an experiment that differ from the published ones, and the reasons."""

from typing import Any

from stages.config.experiment import Experiment
from stages.config.recipes import flatten

MODELED = (
    "judge",
    "stage1",
    "prms",
    "labels",
    "affinity",
    "propagation",
    "assignment",
    "segmentor",
)  # sections that have published values


def departures(experiment: Experiment) -> list[tuple[str, str, str, str]]:
    """Option, published value, value here, reason: of the option, or of its whole section."""
    ours, segmentor = experiment, type(experiment.segmentor)()
    published = Experiment(dataset=experiment.dataset, segmentor=segmentor)
    rows = []
    for section in MODELED:
        # How the epoch is scored is told by `keep`, and by the page's scores of the epochs.
        here, there = (
            flatten(getattr(of, section).model_dump(mode="json", exclude={"validation"}))
            for of in (ours, published)
        )
        for option, value in here.items():
            if value != there.get(option):
                name = f"{section}.{option}"
                published_value = _text(there.get(option))
                rows.append((name, published_value, _text(value), _reason(name, ours.reasons)))
    return rows


def _reason(name: str, reasons: dict[str, str]) -> str:
    """Why an option differs: of itself, or of the closest section around it that has a reason."""
    while name not in reasons and "." in name:
        name = name.rpartition(".")[0]
    return reasons.get(name, "")


def _text(value: Any) -> str:
    return "-" if value is None else str(value)
