"""Polygons from outside, checked before they are drawn: pycocotools draws any numbers."""

from collections.abc import Sequence
from itertools import chain
from math import isfinite
from typing import Any

REACH = 2  # widths and heights of the image that a corner may lie outside: annotators overshoot


def require_polygons(polygons: Sequence[Sequence[Any]], height: int, width: int) -> None:
    """Raises ValueError for polygons that are not pairs of pixel coordinates [x, y, x, y, ...].

    Coordinates that are all between 0 and 1 are fractions of the image, as YOLO writes them.
    """
    for polygon in polygons:
        if len(polygon) % 2:
            raise ValueError(f"a polygon of {len(polygon)} numbers; needed pairs of x and y")
        if not all(type(value) in (int, float) for value in polygon):
            raise ValueError(f"no COCO segmentation (a polygon with {repr(polygon)[:60]})")
        if not all(map(isfinite, polygon)):
            raise ValueError("a polygon with nan or infinity; needed numbers")
        for name, values, size in (("x", polygon[::2], width), ("y", polygon[1::2], height)):
            if min(values) < -REACH * size or max(values) > (1 + REACH) * size:
                worst = max(values, key=abs)
                raise ValueError(
                    f"a polygon reaches to {name} = {worst:g}; the image ends at {size}"
                )
    if polygons and are_fractions(chain.from_iterable(polygons)):
        raise ValueError(
            "polygons between 0 and 1, which are fractions of the image; needed pixels"
        )


def are_fractions(values: Any) -> bool:
    """Whether all of some coordinates are between 0 and 1, and not all are whole."""
    known = list(values)
    return all(0 <= value <= 1 for value in known) and any(value % 1 for value in known)
