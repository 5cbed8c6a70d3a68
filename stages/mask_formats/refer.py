"""REFER's own format: refs(risflow).p and instances.json, by which every code base of the field
trains.

A ref of each mask: of an object with its expressions, or of one expression for predictions. Masks
are run lengths in a list, as REFER's getMask expects them. Empty masks have no ref.

Where an image is turned by EXIF, sizes and masks are those of its pixels as they are stored: the
code bases of the field read images without the tag.
"""

import json
import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

from stages.data.formats import open_image
from stages.data.orientation import SIDEWAYS, UPRIGHT, orientation_of, turn_back
from stages.mask_formats import coco
from stages.mask_formats.rows import ExpressionRow, ImageRow, MaskRow, MaskRows
from stages.storage.masks import encode

SPLIT_BY = "risflow"
PROTOCOL = 2  # of pickle, which python 2 reads too


def write_refer(folder: Path, rows: MaskRows) -> None:
    numbers = coco.category_numbers(rows)
    turns = {number: _orientation(image) for number, image in rows.images.items()}
    refs: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for row in rows:
        if row.area and row.expressions:
            stored = _mask_as_stored(row, turns[row.image.number])
            annotation = coco.annotation(stored, numbers)
            annotations.append({**annotation, "segmentation": [annotation["segmentation"]]})
            refs.append(_ref(row, annotation))
    content = {
        "images": [
            coco.image_record(_as_stored(image, turns[number]))
            for number, image in rows.images.items()
        ],
        "annotations": annotations,
        "categories": coco.categories(numbers),
    }
    (folder / f"refs({SPLIT_BY}).p").write_bytes(pickle.dumps(refs, protocol=PROTOCOL))
    (folder / coco.NAME).write_text(json.dumps(content))


def _orientation(image: ImageRow) -> int:
    """EXIF's; that of pixels as they are stored where the image is not there any more."""
    try:
        with open_image(image.file) as opened:
            return orientation_of(opened)
    except FileNotFoundError:
        return UPRIGHT


def _as_stored(image: ImageRow, orientation: int) -> ImageRow:
    if orientation in SIDEWAYS:
        return image._replace(width=image.height, height=image.width)
    return image


def _mask_as_stored(row: MaskRow, orientation: int) -> MaskRow:
    if orientation == UPRIGHT:
        return row
    counts = encode(turn_back(row.decode(), orientation))
    return replace(row, image=_as_stored(row.image, orientation), counts=counts)


def _ref(row: MaskRow, annotation: dict[str, Any]) -> dict[str, Any]:
    return {
        "ref_id": annotation["id"],
        "ann_id": annotation["id"],
        "image_id": annotation["image_id"],
        "category_id": annotation["category_id"],
        "file_name": row.image.name,
        "split": row.split,
        "sentences": [_sentence(expression) for expression in row.expressions],
        "sent_ids": [int(expression.number) for expression in row.expressions],
    }


def _sentence(expression: ExpressionRow) -> dict[str, Any]:
    return {
        "sent_id": int(expression.number),
        "sent": expression.text,
        "raw": expression.raw or expression.text,
        "tokens": expression.text.split(),
        **({} if expression.kind is None else {"kind": expression.kind}),
    }
