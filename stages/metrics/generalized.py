"""Scores of expressions that may have no target, by the rules of gRefCOCO.

Follows official GRES/ReLA (gres_model/evaluation/refer_evaluation.py), in fractions where that
gives percent. Departures: what nothing was there to score of is None, where the official code
gives 0 (N-acc. and T-acc. of a data set without no-target expressions) or divides by zero (one
with nothing else).
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from stages.metrics.iou import intersection_union

GENERALIZED_THRESHOLDS = (0.7, 0.8, 0.9)


@dataclass(frozen=True)
class Outcome:
    """One expression: pixels that count, and what was said of its having a target."""

    intersection: int
    union: int
    iou: float
    no_target: bool  # is there none
    predicted_no_target: bool


@dataclass(frozen=True)
class GeneralizedScores:
    """A summary over expressions; all values are fractions, None where nothing was to score."""

    num_samples: int
    num_no_target: int
    g_iou: float  # mean over all expressions
    c_iou: float | None  # pooled pixels
    n_acc: float | None  # share of no-target expressions that were found to be so
    t_acc: float | None  # share of the others that were not taken for such
    precision: dict[float, float] | None  # share of the others whose IoU is at least the threshold


def outcome(
    prediction: ArrayLike, truth: ArrayLike, no_target: bool, predicted_no_target: bool
) -> Outcome:
    """The outcome of one expression from its masks (H, W).

    No target, and said so: IoU 1 whatever the mask. No target, not said: IoU 0 even if the mask is
    empty, its pixels wrong. A target that was denied: IoU 0, its pixels and the mask's wrong.
    """
    intersection, union = intersection_union(prediction, truth)
    if no_target:
        right = predicted_no_target
        return Outcome(0, 0 if right else union, float(right), no_target, predicted_no_target)
    if predicted_no_target:
        intersection = 0
    iou = intersection / union if union else 0.0
    return Outcome(intersection, union, iou, no_target, predicted_no_target)


def summarize_generalized(outcomes: Iterable[Outcome]) -> GeneralizedScores:
    """Scores of all expressions. Raises ValueError where there is none."""
    rows = list(outcomes)
    if not rows:
        raise ValueError("no sample to score; needed at least one")
    ious = np.array([row.iou for row in rows])
    absent = np.array([row.no_target for row in rows])
    denied = np.array([row.predicted_no_target for row in rows])
    union = sum(row.union for row in rows)
    targeted = ious[~absent]
    return GeneralizedScores(
        num_samples=len(rows),
        num_no_target=int(absent.sum()),
        g_iou=float(ious.mean()),
        c_iou=sum(row.intersection for row in rows) / union if union else None,
        n_acc=_share(denied[absent]),
        t_acc=_share(~denied[~absent]),
        precision=(
            {at: float((targeted >= at).mean()) for at in GENERALIZED_THRESHOLDS}
            if len(targeted)
            else None
        ),
    )


def _share(claims: NDArray[np.bool_]) -> float | None:
    return float(claims.mean()) if len(claims) else None
