"""Boxes of a mask and their scores, as TRIS reports them (official utils/box_eval_utils.py).

The official code colors the mask, converts it to gray, thresholds it and traces contours; a mask of
two values stays itself. The outline of each connected part gives a box, and so does the
outline of each hole. Two quirks are kept, since published numbers contain them: a mask of one value
has no boxes, and the overlapping boxes are dropped as if (x, y, width, height) were two corners.

Shapes: masks are (H, W); boxes are x1, y1, x2, y2 and a confidence.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage

NMS_OVERLAP = 0.05
KEPT_CONFIDENCE = 0.5  # of the highest confidence
EIGHT_NEIGHBORS = np.ones((3, 3), bool)


class Box(NamedTuple):
    """A box found in a mask, and the share of it that the mask fills."""

    left: float
    top: float
    right: float
    bottom: float
    confidence: float


NO_BOX = Box(0.0, 0.0, 1.0, 1.0, 0.0)


def find_boxes(mask: ArrayLike) -> list[Box]:
    """Boxes of a mask, most confident first; at least one."""
    pixels = np.asarray(mask, bool)
    if pixels.all() or not pixels.any():
        return [NO_BOX]
    outlines = np.array(list(_outlines(pixels)))  # (N, 4) x, y, width, height
    values = np.where(pixels, np.uint8(255), np.uint8(0))
    confidence = np.array(
        [values[y : y + h, x : x + w].mean() / 255 for x, y, w, h in outlines.tolist()]
    )
    kept = _suppress(outlines.astype(np.float32), confidence.astype(np.float32))
    x, y, width, height = outlines[kept].T.astype(float)
    boxes = zip(x, y, x + width, y + height, confidence[kept], strict=True)
    limit = KEPT_CONFIDENCE * confidence.max()
    return [Box(*map(float, box)) for box in boxes if box[4] > limit]


def box_iou(box: Sequence[float], ground_truth: Sequence[float]) -> float:
    """Intersection over union of two boxes x1, y1, x2, y2."""
    left, top, right, bottom = (float(value) for value in box[:4])
    width = min(right, ground_truth[2]) - max(left, ground_truth[0])
    height = min(bottom, ground_truth[3]) - max(top, ground_truth[1])
    shared = max(width, 0.0) * max(height, 0.0)
    area = (right - left) * (bottom - top)
    other = (ground_truth[2] - ground_truth[0]) * (ground_truth[3] - ground_truth[1])
    return shared / (area + other - shared)


def score_boxes(
    boxes: Sequence[Box], point: tuple[int, int], ground_truth: Sequence[float]
) -> tuple[float, bool]:
    """IoU of the box that contains the map's peak (row, column), and whether any is above 0.5.

    If several boxes contain the peak, the last one counts; if none does, the first.
    """
    row, column = point
    chosen = boxes[0]
    for box in boxes:
        if box.left <= column <= box.right and box.top <= row <= box.bottom:
            chosen = box
    return box_iou(chosen, ground_truth), any(box_iou(box, ground_truth) > 0.5 for box in boxes)


@dataclass
class _Outline:
    """A connected part, or a hole in one, with what lies directly in it."""

    start: int  # its first pixel, row by row
    box: tuple[int, int, int, int]  # x, y, width, height
    inner: list["_Outline"] = field(default_factory=list)


def _outlines(mask: NDArray[np.bool_]) -> Iterator[tuple[int, int, int, int]]:
    """x, y, width, height of all outlines, in the order of OpenCV's tree of contours.

    The order decides between boxes of equal confidence: an outline comes before those within it,
    and of neighbors the lower ones come first.
    """
    padded = np.pad(mask, 1)
    part_labels, _ = ndimage.label(padded, EIGHT_NEIGHBORS)
    # Gaps have four neighbors; number 1 is the outside, which contains the corner.
    gap_labels, _ = ndimage.label(~padded)
    parts = _measure(part_labels, grow=0)
    gaps = _measure(gap_labels, grow=1)
    outside = gaps[0]
    # The pixel left of an outline's first pixel belongs to what the outline lies in.
    for segment in parts:
        gaps[gap_labels.flat[segment.start - 1] - 1].inner.append(segment)
    for gap in gaps[1:]:
        parts[part_labels.flat[gap.start - 1] - 1].inner.append(gap)
    pending = sorted(outside.inner, key=lambda outline: outline.start)
    while pending:
        outline = pending.pop()
        yield outline.box
        pending.extend(sorted(outline.inner, key=lambda inner: inner.start))


def _measure(labels: NDArray[np.signedinteger[Any]], grow: int) -> list[_Outline]:
    # A hole's outline runs through the pixels around it: its box is larger by one on each side.
    values, starts = np.unique(labels, return_index=True)
    starts = starts[values > 0]
    outlines = []
    for start, (rows, columns) in zip(starts.tolist(), ndimage.find_objects(labels), strict=True):
        x, y = columns.start - 1 - grow, rows.start - 1 - grow  # without the padding
        width, height = columns.stop - columns.start, rows.stop - rows.start
        outlines.append(_Outline(start, (x, y, width + 2 * grow, height + 2 * grow)))
    return outlines


def _suppress(boxes: NDArray[np.float32], confidence: NDArray[np.float32]) -> list[int]:
    """Indices of the boxes, by falling confidence, that overlap none before them too much.

    Officially width and height are taken for the second corner, so that areas can be negative.
    """
    left, top, right, bottom = boxes.T
    areas = (right - left) * (bottom - top)
    order = np.argsort(-confidence, kind="stable")
    dropped = np.zeros(len(boxes), bool)
    kept = []
    for place, index in enumerate(order.tolist()):
        if dropped[index]:
            continue
        kept.append(index)
        later = order[place + 1 :]
        width = np.minimum(right[index], right[later]) - np.maximum(left[index], left[later])
        height = np.minimum(bottom[index], bottom[later]) - np.maximum(top[index], top[later])
        shared = np.maximum(width, 0) * np.maximum(height, 0)
        with np.errstate(divide="ignore", invalid="ignore"):
            overlap = shared / (areas[index] + areas[later] - shared)
        dropped[later] |= overlap.astype(np.float64) > NMS_OVERLAP  # as torchvision compares
    return kept
