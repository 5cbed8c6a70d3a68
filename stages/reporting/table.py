"""The score table, as text for a terminal and as rows for the page."""

from collections.abc import Callable, Sequence
from typing import Any

Label = Callable[[dict[str, Any]], str]  # what a metrics file is called in the table

LABELS = {
    "whole_image": "whole image",
    "center_box": "center box",
    "zero_shot": "CLIP as it is",
    "stage1": "TRIS stage 1",
    "prms": "PRMS response maps",
    "labels": "CRF labels",
    "pseudo": "pseudo masks",
    "segmentor": "segmentor",
}
COLUMNS = {
    "mean_iou": "mIoU",
    "overall_iou": "oIoU",
    "precision_50": "P@0.5",
    "precision_70": "P@0.7",
    "precision_90": "P@0.9",
    "hit": "hit",
    "hit_mask": "hitM",
}

# Of a split with expressions that have no target, where cIoU is oIoU by gRefCOCO's rules.
GENERALIZED = {"g_iou": "gIoU", "c_iou": "cIoU", "n_acc": "N-acc", "t_acc": "T-acc"}
NOTE = """\
percent; mIoU: mean over expressions, oIoU: over pixels,
P@X: share of IoU above X, hit and hitM: peak inside the box, inside the mask
"""
GENERALIZED_NOTE = """\
gIoU, cIoU: mIoU, oIoU by gRefCOCO's rules, N-acc: share of the expressions without a target that
were found to be so, T-acc: share of the others that were not
"""


def columns(metrics: Sequence[dict[str, Any]]) -> list[str]:
    """The heads of the table."""
    return list((COLUMNS | (GENERALIZED if _is_generalized(metrics) else {})).values())


def rows(metrics: Sequence[dict[str, Any]], label: Label) -> list[tuple[str, str, list[str]]]:
    """(split, what, cells) of each scored thing; what has no scores is left out."""
    generalized = GENERALIZED if _is_generalized(metrics) else {}
    table = []
    for entry in metrics:
        scores = entry["scores"]
        if not scores:
            continue
        cells = [_cell(scores, key) for key in COLUMNS]
        cells += [_cell(scores.get("generalized", {}), key) for key in generalized]
        table.append((entry["split"], label(entry), cells))
    return table


def label_in_report(name: str) -> Label:
    """What a scored thing is called in the report of the experiment `name`."""

    def label(entry: dict[str, Any]) -> str:
        # The only segmentor of another experiment in a report is its upper bound.
        of_bound = entry["what"] == "segmentor" and entry["experiment"] != name
        return "segmentor on true masks" if of_bound else LABELS[entry["what"]]

    return label


def label_in_comparison(entry: dict[str, Any]) -> str:
    """What a scored thing is called beside those of other experiments."""
    return entry["experiment"] if entry["what"] == "segmentor" else LABELS[entry["what"]]


def _is_generalized(metrics: Sequence[dict[str, Any]]) -> bool:
    return any("generalized" in entry["scores"] for entry in metrics)


def text_table(metrics: Sequence[dict[str, Any]], label: Label) -> str:
    """The table in plain text, a block for each split."""
    table = rows(metrics, label)
    if not table:
        return "nothing is scored: the data set has no masks\n"
    width = max(len(what) for _, what, _ in table)
    lines: list[str] = []
    last = None
    for split, what, cells in table:
        if split != last:
            lines += ["", f"{split:<{width}}" + "".join(f"{head:>8}" for head in columns(metrics))]
        lines.append(f"{what:<{width}}" + "".join(f"{cell:>8}" for cell in cells))
        last = split
    note = NOTE + (GENERALIZED_NOTE if _is_generalized(metrics) else "")
    return "\n".join([*lines[1:], "", note])


def _cell(scores: dict[str, float | None], key: str) -> str:
    value = scores.get(key)
    return "-" if value is None else f"{100 * value:.1f}"
