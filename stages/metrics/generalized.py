"""Scores of expressions that may have no target, by the rules of gRefCOCO.

Follows official GRES/ReLA (gres_model/evaluation/refer_evaluation.py), in fractions where that
gives percent. Departure: a score without any expression to score is None, where the official code
gives 0 (N-acc. and T-acc. of a data set without no-target expressions) or divides by zero (a data
set with no others).
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from stages.metrics.iou import intersection_union

GENERALIZED_THRESHOLDS = (0.7, 0.8, 0.9)


@dataclass(frozen=True)
class Outcome:
    """One expression: its pixel counts, and whether it has a target, in truth and as predicted."""

    intersection: int
    union: int
    iou: float
    no_target: bool  # in the ground truth
    predicted_no_target: bool


@dataclass(frozen=True)
class GeneralizedScores:
    """A summary over expressions; all values are fractions, None where nothing was to score."""

    num_samples: int
    num_no_target: int
    g_iou: float  # mean over all expressions
    c_iou: float | None  # pooled pixels
    n_acc: float | None  # share of no-target expressions that are predicted as such
    t_acc: float | None  # share of the others that are predicted to have a target
    precision: dict[float, float] | None  # share of the others whose IoU is at least the threshold


def outcome(
    prediction: ArrayLike, ground_truth: ArrayLike, no_target: bool, predicted_no_target: bool
) -> Outcome:
    """The outcome of one expression from its masks (H, W)."""
    counts = intersection_union(prediction, ground_truth)
    return outcome_of_counts(*counts, no_target, predicted_no_target)


def outcome_of_counts(
    intersection: int, union: int, no_target: bool, predicted_no_target: bool
) -> Outcome:
    """The outcome of one expression from the pixels of its masks.

    No target, predicted so: IoU 1, whatever the mask. No target, not predicted: IoU 0 even if the
    mask is empty; its pixels are wrong. A target, but none predicted: IoU 0; the pixels of both
    masks are wrong.
    """
    if no_target:
        right = predicted_no_target
        return Outcome(0, 0 if right else union, float(right), no_target, predicted_no_target)
    if predicted_no_target:
        intersection = 0
    iou = intersection / union if union else 0.0
    return Outcome(intersection, union, iou, no_target, predicted_no_target)


def summarize_generalized(outcomes: Iterable[Outcome]) -> GeneralizedScores:
    """Scores of all expressions. Raises ValueError if there are none."""
    rows = list(outcomes)
    if not rows:
        raise ValueError("no sample to score; needed at least one")
    ious = np.array([row.iou for row in rows])
    absent = np.array([row.no_target for row in rows])
    predicted = np.array([row.predicted_no_target for row in rows])
    union = sum(row.union for row in rows)
    targeted = ious[~absent]
    return GeneralizedScores(
        num_samples=len(rows),
        num_no_target=int(absent.sum()),
        g_iou=float(ious.mean()),
        c_iou=sum(row.intersection for row in rows) / union if union else None,
        n_acc=_share(predicted[absent]),
        t_acc=_share(~predicted[~absent]),
        precision=(
            {at: float((targeted >= at).mean()) for at in GENERALIZED_THRESHOLDS}
            if len(targeted)
            else None
        ),
    )


def _share(claims: NDArray[np.bool_]) -> float | None:
    return float(claims.mean()) if len(claims) else None
