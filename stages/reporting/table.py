"""The score table, as text for a terminal and as rows for the page."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from stages.config.baselines import BASELINES as BASELINES
from stages.config.figures import Figures

Label = Callable[[dict[str, Any]], str]  # what a metrics file is called in the table

LABELS = {
    "whole_image": "whole image",
    "center_box": "center box",
    "zero_shot": "zero-shot CLIP",
    "stage1": "TRIS stage 1",
    "maps": "PRMS response maps",
    "votes": "votes of the round before",
    "labels": "CRF labels",
    "pseudo_masks": "pseudo masks",
    "assigned": "assigned masks",
    "segmentor": "segmentor",
}
COLUMNS = {
    "mean_iou": "mIoU",
    "interval": "95 % CI",
    "overall_iou": "oIoU",
    "precision_50": "P@0.5",
    "precision_70": "P@0.7",
    "precision_90": "P@0.9",
    "pointing_accuracy": "PA",
    "pointing_accuracy_mask": "PA mask",
}
BOXES = {"box_iou": "box mIoU", "box_accuracy": "box acc"}  # where a model's boxes are scored

# Of a split with expressions that have no target, where cIoU is oIoU by gRefCOCO's rules.
GENERALIZED = {"g_iou": "gIoU", "c_iou": "cIoU", "n_acc": "N-acc", "t_acc": "T-acc"}
NOTE = """\
percent; mIoU: mean over expressions, with its 95 % CI (bootstrap over images), oIoU: over pixels,
P@X: IoU above X, PA, PA mask: pointing accuracy, the peak is inside the box, inside the mask
"""
BOX_NOTE = """\
box mIoU: of the box with the peak, box acc: expressions where any box has an IoU above 0.5
"""
GENERALIZED_NOTE = """\
gIoU, cIoU: mIoU and oIoU by gRefCOCO's rules, N-acc: expressions without a target that are
predicted to have none, T-acc: the other expressions, predicted to have one
"""


@dataclass(frozen=True)
class Row:
    """A row of the table: something scored, or what the one above it is to be held against."""

    split: str
    name: str
    cells: list[str]
    kind: Literal["scored", "square", "published", "expected"] = "scored"


def columns(metrics: Sequence[dict[str, Any]]) -> dict[str, str]:
    """The metrics of the table, and their heads."""
    boxes = BOXES if _has_boxes(metrics) else {}
    return COLUMNS | boxes | (GENERALIZED if _is_generalized(metrics) else {})


def rows(
    metrics: Sequence[dict[str, Any]], label: Label, figures: Mapping[str, Figures]
) -> list[Row]:
    """A row for each scored thing, then its published and expected figures, if it has any.

    Masks that are also scored in the model's square have a row of that too, and the figures are
    held against it: such are the official scores. `figures` are those of experiments by name. What
    has no scores is left out.
    """
    keys = list(columns(metrics))
    table = []
    for entry in metrics:
        if not entry["scores"]:
            continue
        split = entry["split"]
        scores = _all_scores(entry["scores"])
        table.append(Row(split, label(entry), [_cell(scores, key) for key in keys]))
        if square := entry["scores"].get("square"):
            scores, side = _all_scores(square), square["side"]
            cells = [_cell(scores, key) for key in keys]
            table.append(Row(split, f"at {side} x {side} pixels", cells, "square"))
        if entry["scored"] == "segmentor" and entry["experiment"] in figures:
            table += _held_against(figures[entry["experiment"]], split, scores, keys)
    return table


def _all_scores(scores: Mapping[str, Any]) -> dict[str, Any]:
    generalized = scores.get("generalized", {})
    return {**scores, **{key: generalized.get(key) for key in GENERALIZED}}


def _held_against(
    figures: Figures, split: str, scores: dict[str, float | None], keys: Sequence[str]
) -> list[Row]:
    references = []
    published: Mapping[Any, float] = figures.published.get(split, {})
    if published:
        cells = [f"{published[key]:.1f}" if key in published else "" for key in keys]
        references.append(Row(split, "published", cells, "published"))
    expected: Mapping[Any, tuple[float, float]] = figures.ranges(split)
    if expected:
        cells = [_range(*expected[key]) if key in expected else "" for key in keys]
        is_met = all(_within(scores.get(key), *limits) for key, limits in expected.items())
        name = "expected, met" if is_met else "expected, not met"
        references.append(Row(split, name, cells, "expected"))
    return references


def _within(value: float | None, low: float, high: float) -> bool:
    return value is not None and low <= 100 * value <= high


def label_in_report(name: str) -> Label:
    """What a scored thing is called in the report of the experiment `name`."""

    def label(entry: dict[str, Any]) -> str:
        # The only segmentor of another experiment in a report is its upper bound.
        of_bound = entry["scored"] == "segmentor" and entry["experiment"] != name
        return "fully supervised" if of_bound else LABELS[entry["scored"]]

    return label


def label_in_comparison(entry: dict[str, Any]) -> str:
    """What a scored thing is called beside those of other experiments."""
    return str(entry["experiment"]) if entry["scored"] == "segmentor" else LABELS[entry["scored"]]


def _is_generalized(metrics: Sequence[dict[str, Any]]) -> bool:
    return any("generalized" in entry["scores"] for entry in metrics)


def _has_boxes(metrics: Sequence[dict[str, Any]]) -> bool:
    return any("box_iou" in entry["scores"] for entry in metrics)


def text_table(
    metrics: Sequence[dict[str, Any]], label: Label, figures: Mapping[str, Figures]
) -> str:
    """The table in plain text, a block for each split."""
    table = rows(metrics, label, figures)
    if not table:
        return "nothing is scored: the data set has no masks\n"
    heads = list(columns(metrics).values())
    names = [row.name if row.kind == "scored" else f"  {row.name}" for row in table]
    width = max(map(len, names))
    columns_of_text = zip(heads, *(row.cells for row in table), strict=True)
    widths = [max(8, 2 + max(map(len, column))) for column in columns_of_text]
    lines: list[str] = []
    last = None
    for row, name in zip(table, names, strict=True):
        if row.split != last:
            lines += ["", _line(row.split, heads, width, widths)]
        lines.append(_line(name, row.cells, width, widths))
        last = row.split
    note = NOTE + (BOX_NOTE if _has_boxes(metrics) else "")
    note += GENERALIZED_NOTE if _is_generalized(metrics) else ""
    return "\n".join([*lines[1:], "", note])


def _line(name: str, cells: Sequence[str], width: int, widths: Sequence[int]) -> str:
    padded = (f"{cell:>{size}}" for cell, size in zip(cells, widths, strict=True))
    return f"{name:<{width}}{''.join(padded)}".rstrip()


def _cell(scores: Mapping[str, Any], key: str) -> str:
    if key == "interval":
        low, high = scores.get("mean_iou_low"), scores.get("mean_iou_high")
        return "-" if low is None or high is None else _range(100 * low, 100 * high)
    value = scores.get(key)
    return "-" if value is None else f"{100 * value:.1f}"


def _range(low: float, high: float) -> str:
    return f"{low:.1f}-{high:.1f}"
