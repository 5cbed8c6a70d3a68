"""COCO's panoptic format: an image of segment numbers for each image, and panoptic.json.

A pixel is of one segment. Objects have one each; of predictions it is that of the expression with
the highest score. Smaller segments lie over larger ones, and what is covered whole is left out.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from stages.mask_formats.coco import category_numbers, image_record
from stages.mask_formats.rows import ImageRow, MaskRow, MaskRows

NAME = "panoptic.json"
SEGMENTS = "panoptic"  # the folder of the images of numbers


def write_panoptic(folder: Path, rows: MaskRows) -> None:
    numbers = category_numbers(rows)
    annotations = []
    for image, of_image in rows.of_images():
        segments = _segments(image, one_of_each_object(of_image))
        file = f"{image.label}.png"
        place = folder / SEGMENTS / file
        place.parent.mkdir(parents=True, exist_ok=True)
        colors = np.stack([segments >> shift & 255 for shift in (0, 8, 16)], axis=-1)
        Image.fromarray(colors.astype(np.uint8)).save(place)
        known = {row.number + 1: row for row in of_image}
        annotations.append(
            {
                "image_id": image.number + 1,
                "file_name": file,
                "segments_info": [
                    _segment(segments, int(number), known[int(number)], numbers)
                    for number in np.unique(segments)
                    if number
                ],
            }
        )
    content = {
        "images": [image_record(image) for image in rows.images.values()],
        "annotations": annotations,
        "categories": [
            {"id": number, "name": name, "supercategory": "object", "isthing": 1}
            for name, number in numbers.items()
        ],
    }
    (folder / NAME).write_text(json.dumps(content))


def one_of_each_object(rows: list[MaskRow]) -> list[MaskRow]:
    """The mask of the expression with the highest score, where there are several of an object."""
    best: dict[int, MaskRow] = {}
    for row in rows:
        other = best.get(row.object)
        if other is None or (row.score or 0) > (other.score or 0):
            best[row.object] = row
    return list(best.values())


def _segments(image: ImageRow, rows: list[MaskRow]) -> NDArray[np.int64]:
    """The number of the segment of each pixel (H, W), 0 where there is none."""
    segments = np.zeros((image.height, image.width), np.int64)
    for row in sorted(rows, key=lambda row: -row.area):
        segments[row.decode()] = row.number + 1
    return segments


def _segment(
    segments: NDArray[np.int64], number: int, row: MaskRow, numbers: dict[str, int]
) -> dict[str, Any]:
    inside = segments == number
    lines, columns = np.flatnonzero(inside.any(axis=1)), np.flatnonzero(inside.any(axis=0))
    x, y = int(columns[0]), int(lines[0])
    return {
        "id": number,
        "category_id": numbers[row.category],
        "area": int(inside.sum()),
        "bbox": [x, y, int(columns[-1]) + 1 - x, int(lines[-1]) + 1 - y],
        "iscrowd": 0,
        "expressions": row.texts,
    }
