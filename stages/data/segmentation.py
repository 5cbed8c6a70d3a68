"""COCO's segmentations as masks: polygons, run lengths of both kinds, lists of them.

Follows the official reader (TRIS dataset/refer.py) with one departure: a pixel inside two polygons
of one object belongs to the object, as in COCO's own masks. The official code counts such pixels
as background (`getMask` and `ReferDataset.__getitem__`); `overlap: official` does the same.
"""

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from pycocotools import mask as coco

from stages.data.outlines import require_polygons
from stages.storage.masks import Mask
from stages.storage.run_lengths import require_run_lengths

Overlap = Literal["union", "official"]
LEAST_COORDINATES = 6  # of a polygon: three corners


def object_run_lengths(
    segmentations: Sequence[Any], height: int, width: int, overlap: Overlap = "union"
) -> str | None:
    """Run lengths of all segmentations of an object together; None if no pixel is in them.

    The same as of the union of their masks. Polygons are joined without drawing their pixels, which
    takes a tenth of the time. Raises ValueError like `segmentation_mask`.
    """
    layers = []
    for segmentation in segmentations:
        parts = _parts(segmentation)
        is_drawn = overlap == "official" and len(parts) > 1
        if is_drawn or any(isinstance(shape, dict) for shape in parts):
            mask = segmentation_mask(segmentation, height, width, overlap)
            layers.append(coco.encode(np.asfortranarray(mask, dtype=np.uint8)))
        else:
            layers += _run_lengths(parts, height, width)
    if not layers:
        return None
    union = coco.merge(layers)
    return str(union["counts"].decode("ascii")) if coco.area(union) else None


def segmentation_mask(
    segmentation: Any, height: int, width: int, overlap: Overlap = "union"
) -> Mask:
    """The mask (height, width) of COCO polygons, of run lengths (compressed or not), or a list.

    `overlap: official` leaves out the pixels that lie in more than one of the polygons.
    Raises ValueError if it is none of these or of another size.
    """
    parts = _parts(segmentation)
    if not parts:
        return np.zeros((height, width), dtype=bool)
    runs = _run_lengths(parts, height, width)
    try:
        count = coco.decode(runs).sum(axis=2)  # (height, width, parts) over the parts
    except Exception as error:  # pycocotools raises bare Exceptions
        raise ValueError(f"no COCO segmentation ({error})") from None
    return (count == 1) if overlap == "official" else (count > 0)


def _parts(segmentation: Any) -> list[Any]:
    """The polygons and run lengths of a segmentation, without polygons that hold nothing."""
    parts = [segmentation] if isinstance(segmentation, dict) else segmentation
    if not isinstance(parts, list) or not all(isinstance(shape, dict | list) for shape in parts):
        raise ValueError(f"no COCO segmentation (found {repr(segmentation)[:60]})")
    if _has_pairs(parts):
        raise ValueError("polygons of pairs [[x, y], ...]; needed flat ones, [x, y, x, y, ...]")
    return [shape for shape in parts if isinstance(shape, dict) or len(shape) >= LEAST_COORDINATES]


def _has_pairs(parts: list[Any]) -> bool:
    """Whether corners are pairs: in polygons, or in the place of polygons."""
    polygons = [shape for shape in parts if isinstance(shape, list)]
    if any(isinstance(value, list) for polygon in polygons for value in polygon):
        return True
    return len(polygons) >= 3 and all(len(polygon) == 2 for polygon in polygons)


def _run_lengths(parts: list[Any], height: int, width: int) -> list[dict[str, Any]]:
    """COCO's compressed run lengths of polygons and of run lengths of either kind."""
    polygons = [shape for shape in parts if isinstance(shape, list)]
    require_polygons(polygons, height, width)
    for shape in parts:
        if isinstance(shape, dict):
            require_run_lengths(shape, height, width)
    try:
        return [_compressed(shape, height, width) for shape in parts]
    except Exception as error:  # pycocotools raises bare Exceptions
        raise ValueError(f"no COCO segmentation ({error})") from None


def _compressed(shape: Any, height: int, width: int) -> dict[str, Any]:
    if isinstance(shape, list):
        return coco.frPyObjects([shape], height, width)[0]
    if isinstance(shape["counts"], str | bytes):
        return shape
    return coco.frPyObjects([shape], *shape["size"])[0]
