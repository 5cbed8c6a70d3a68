"""Masks of a stage in one format, in a folder."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from stages.config.exports import MaskFormat
from stages.mask_formats.coco import write_coco
from stages.mask_formats.cvat import write_cvat
from stages.mask_formats.labelme import write_labelme
from stages.mask_formats.panoptic import write_panoptic
from stages.mask_formats.png import write_png
from stages.mask_formats.refer import write_refer
from stages.mask_formats.rows import MaskRows
from stages.mask_formats.yolo import write_yolo
from stages.runtime.errors import InputError

WRITERS: dict[MaskFormat, Callable[[Path, MaskRows], None]] = {
    "png": write_png,
    "coco": write_coco,
    "coco-panoptic": write_panoptic,
    "cvat": write_cvat,
    "yolo": write_yolo,
    "labelme": write_labelme,
    "refer": write_refer,
}


def count_masks(rows: MaskRows) -> dict[str, Any]:
    """How many images and masks there are, and how many of these are empty.

    Raises InputError where there is none: the objects of the splits have no masks.
    """
    empty = [not row.area for row in rows]
    if not empty:
        raise InputError(f"{rows.stage.replace('_', ' ')}: no object of these splits has a mask")
    return {"images": len(rows.images), "masks": len(empty), "empty": sum(empty)}
