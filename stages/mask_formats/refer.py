"""REFER's own format: refs(risflow).p and instances.json, by which every code base of the field
trains.

A ref of each mask: of an object with its expressions, or of one expression for predictions. Masks
are run lengths in a list, as REFER's getMask expects them. Empty masks have no ref.
"""

import json
import pickle
from pathlib import Path
from typing import Any

from stages.mask_formats import coco
from stages.mask_formats.rows import ExpressionRow, MaskRow, MaskRows

SPLIT_BY = "risflow"
PROTOCOL = 2  # of pickle, which python 2 reads too


def write_refer(folder: Path, rows: MaskRows) -> None:
    numbers = coco.category_numbers(rows)
    refs: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for row in rows:
        if row.area and row.expressions:
            annotation = coco.annotation(row, numbers)
            annotations.append({**annotation, "segmentation": [annotation["segmentation"]]})
            refs.append(_ref(row, annotation))
    content = {
        "images": [coco.image_record(image) for image in rows.images.values()],
        "annotations": annotations,
        "categories": coco.categories(numbers),
    }
    (folder / f"refs({SPLIT_BY}).p").write_bytes(pickle.dumps(refs, protocol=PROTOCOL))
    (folder / coco.NAME).write_text(json.dumps(content))


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
