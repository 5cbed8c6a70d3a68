"""Which options of an experiment differ from the published ones, and why."""

from typing import Any

from stages.config.experiment import Experiment

MODELED = (
    "clip",
    "judge",
    "stage1",
    "prms",
    "labels",
    "affinity",
    "propagation",
    "segmentor",
)  # sections that have published values


def departures(experiment: Experiment) -> list[tuple[str, str, str, str]]:
    """Option, published value, value here, reason: of the option, or of its whole section."""
    ours, segmentor = experiment, type(experiment.segmentor)()
    published = Experiment(dataset=experiment.dataset, segmentor=segmentor)
    rows = []
    for section in MODELED:
        here = _flat(getattr(ours, section).model_dump(mode="json"))
        there = _flat(getattr(published, section).model_dump(mode="json"))
        for option, value in here.items():
            if value != there.get(option):
                name = f"{section}.{option}"
                reason = ours.reasons.get(name, ours.reasons.get(section, ""))
                rows.append((name, _text(there.get(option)), _text(value), reason))
    return rows


def _flat(options: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in options.items():
        inner = _flat(value, f"{prefix}{name}.") if isinstance(value, dict) else None
        flat |= inner if inner is not None else {f"{prefix}{name}": value}
    return flat


def _text(value: Any) -> str:
    return "-" if value is None else str(value)
