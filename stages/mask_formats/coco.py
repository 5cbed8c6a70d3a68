"""COCO's instances.json, with run lengths: exact, also for holes; empty masks are left out.

Opens in pycocotools, FiftyOne, CVAT and Detectron2. What COCO has no key for is under its own:
`expressions` of an annotation, and `object` and `split`. A `score` is there where a stage has one.
"""

import json
from pathlib import Path
from typing import Any

from pycocotools import mask as coco

from stages.mask_formats.rows import ImageRow, MaskRow, MaskRows

NAME = "instances.json"


def write_coco(folder: Path, rows: MaskRows) -> None:
    write_coco_file(folder / NAME, rows)


def write_coco_file(path: Path, rows: MaskRows) -> None:
    """The whole data set in one file."""
    numbers = category_numbers(rows)
    content = {
        "info": {"description": f"{rows.stage} of risflow"},
        "licenses": [],
        "images": [image_record(image) for image in rows.images.values()],
        "annotations": [
            annotation(row, numbers)
            | {"expressions": row.texts, "object": row.object, "split": row.split}
            | ({} if row.score is None else {"score": row.score})
            for row in rows
            if row.area
        ],
        "categories": categories(numbers),
    }
    path.write_text(json.dumps(content))


def category_numbers(rows: MaskRows) -> dict[str, int]:
    """The categories of the data set, whatever the split, from 1."""
    return {name: number for number, name in enumerate(rows.categories, start=1)}


def categories(numbers: dict[str, int]) -> list[dict[str, Any]]:
    return [
        {"id": number, "name": name, "supercategory": "object"} for name, number in numbers.items()
    ]


def image_record(image: ImageRow) -> dict[str, Any]:
    """An image; numbers are those of the samples, from 1."""
    return {
        "id": image.number + 1,
        "file_name": image.name,
        "width": image.width,
        "height": image.height,
    }


def annotation(row: MaskRow, numbers: dict[str, int]) -> dict[str, Any]:
    """A mask in COCO's terms; `id` is its number in the samples, from 1."""
    size = [row.image.height, row.image.width]
    runs = {"size": size, "counts": row.counts}
    return {
        "id": row.number + 1,
        "image_id": row.image.number + 1,
        "category_id": numbers[row.category],
        "segmentation": runs,
        "area": row.area,
        "bbox": coco.toBbox({**runs, "counts": row.counts.encode("ascii")}).tolist(),
        "iscrowd": 0,
    }
