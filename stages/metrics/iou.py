"""Scores of masks, and of the peaks of maps, against the ground truth.

IoU of each sample is I / U; the mean weighs samples equally, the overall IoU pools their pixels.
Where prediction and ground truth are both empty, the IoU is 1: nothing is missing or wrong.
The official TRIS code divides 0 by 0 there (validate.py), which `empty=nan` gives.

Shapes: maps and masks are (H, W); points are (row, column); boxes are (N, 4) as x1 y1 x2 y2.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from stages.storage.masks import Mask

THRESHOLDS = (0.5, 0.6, 0.7, 0.8, 0.9)
SMALL = np.float32(1e-5)  # official: avoids a division by zero for an empty map
POSITIVE = 1e-9  # official: what counts as a response

Map = NDArray[np.float32]


@dataclass(frozen=True)
class Scores:
    """A summary over samples; all values are fractions, None where there was nothing to score."""

    num_samples: int
    mean_iou: float
    overall_iou: float
    precision: dict[float, float]  # share of samples whose IoU is above the threshold
    pointing_accuracy: float | None = None  # share whose peak is in a ground truth box
    pointing_accuracy_mask: float | None = None  # share whose peak is in the ground truth mask


def score(pairs: Iterable[tuple[ArrayLike, ArrayLike]]) -> Scores:
    """Scores of (prediction, ground truth) masks."""
    counts = [intersection_union(prediction, ground_truth) for prediction, ground_truth in pairs]
    return summarize(*np.asarray(counts).reshape(-1, 2).T)


def summarize(
    intersections: ArrayLike,
    unions: ArrayLike,
    in_box: ArrayLike | None = None,
    in_mask: ArrayLike | None = None,
    empty: float = 1.0,
) -> Scores:
    """Scores of samples from their pixel counts; `empty` is the IoU of an empty union.

    `in_box` and `in_mask` tell of each sample whether its peak is in the ground truth.
    Raises ValueError where there is no sample.
    """
    intersections, unions = np.asarray(intersections, np.int64), np.asarray(unions, np.int64)
    if not len(unions):
        raise ValueError("no sample to score; needed at least one")
    ious = iou(intersections, unions, empty)
    pooled = iou(intersections.sum(), unions.sum(), empty)
    return Scores(
        num_samples=len(ious),
        mean_iou=float(ious.mean()),
        overall_iou=float(pooled),
        precision={threshold: precision(ious, threshold) for threshold in THRESHOLDS},
        pointing_accuracy=_share(in_box),
        pointing_accuracy_mask=_share(in_mask),
    )


def _share(claims: ArrayLike | None) -> float | None:
    return None if claims is None else float(np.asarray(claims, float).mean())


def intersection_union(prediction: ArrayLike, ground_truth: ArrayLike) -> tuple[int, int]:
    """Pixels of the intersection and of the union of two masks."""
    first, second = np.asarray(prediction, bool), np.asarray(ground_truth, bool)
    if first.shape != second.shape:
        raise ValueError(f"masks of {first.shape} and {second.shape}; needed one shape")
    return int(np.count_nonzero(first & second)), int(np.count_nonzero(first | second))


def iou(intersections: ArrayLike, unions: ArrayLike, empty: float = 1.0) -> NDArray[np.float64]:
    """Intersection over union of each sample, `empty` where the union is."""
    counts, totals = np.asarray(intersections, np.float64), np.asarray(unions, np.float64)
    result = np.full(totals.shape, empty)
    return np.divide(counts, totals, out=result, where=totals > 0)


def precision(ious: ArrayLike, threshold: float) -> float:
    """P@threshold: the share of samples whose IoU is above it."""
    return float(np.mean(np.asarray(ious, np.float64) > threshold))


def normalize(response: Map) -> Map:
    """A map divided by its maximum; without a positive value it changes sign, as officially."""
    return response / (response.max() + SMALL)


def changes_sign(highest: float) -> bool:
    """Whether `normalize` changes the sign of a map, which then is positive everywhere."""
    return highest < -float(SMALL)


def foreground(response: Map) -> Mask:
    """The official mask of a map: the positive pixels after division by its maximum."""
    return normalize(response) > POSITIVE


def peak(response: Map) -> tuple[int, int]:
    """The highest point of a map; the first one, row by row."""
    row, column = np.unravel_index(int(np.argmax(response)), response.shape)
    return int(row), int(column)


def is_in_boxes(point: tuple[int, int], boxes: Sequence[Sequence[float]] | ArrayLike) -> bool:
    """Whether a point is in any box, borders included (the pointing game)."""
    row, column = point
    left, top, right, bottom = np.asarray(boxes, np.float64).reshape(-1, 4).T
    inside = (left <= column) & (column <= right) & (top <= row) & (row <= bottom)
    return bool(inside.any())


def is_in_mask(point: tuple[int, int], mask: ArrayLike) -> bool:
    """Whether a point is in a mask."""
    return bool(np.asarray(mask)[point])
