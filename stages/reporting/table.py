"""The score table, as text for a terminal and as rows for the page."""

from collections.abc import Sequence
from typing import Any

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


def rows(metrics: Sequence[dict[str, Any]], name: str) -> list[tuple[str, str, list[str]]]:
    """(split, what, cells) of each scored thing; `name` is the experiment of the report."""
    return [
        (entry["split"], _label(entry, name), [_cell(entry["scores"], key) for key in COLUMNS])
        for entry in metrics
    ]


def text_table(metrics: Sequence[dict[str, Any]], name: str) -> str:
    """The table in plain text, a block for each split."""
    table = rows(metrics, name)
    width = max(len(what) for _, what, _ in table)
    lines: list[str] = []
    last = None
    for split, what, cells in table:
        if split != last:
            lines += ["", f"{split:<{width}}" + "".join(f"{c:>8}" for c in COLUMNS.values())]
        lines.append(f"{what:<{width}}" + "".join(f"{cell:>8}" for cell in cells))
        last = split
    return "\n".join(
        [*lines[1:], "", "percent; mIoU: mean over expressions, oIoU: over pixels,"]
    ) + ("\nP@X: share of IoU above X, hit and hitM: peak inside the box, inside the mask\n")


def _label(entry: dict[str, Any], name: str) -> str:
    # The only segmentor of another experiment in a report is its upper bound.
    of_bound = entry["what"] == "segmentor" and entry["experiment"] != name
    return "segmentor on true masks" if of_bound else LABELS[entry["what"]]


def _cell(scores: dict[str, float | None], key: str) -> str:
    value = scores.get(key)
    return "-" if value is None else f"{100 * value:.1f}"
