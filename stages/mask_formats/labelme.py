"""labelme's format: a JSON file beside each image's name, with a polygon for each part of a mask.

Parts of one object have one `group_id`; a hole is joined to its outline by a line that encloses no
pixel. `description` has the expressions.
"""

import json
import os
from pathlib import Path
from typing import Any

from stages.mask_formats.polygons import polygons
from stages.mask_formats.rows import MaskRow, MaskRows

VERSION = "5.5.0"  # of the format


def write_labelme(folder: Path, rows: MaskRows) -> None:
    for image, of_image in rows.of_images():
        file = folder / f"{image.label}.json"
        file.parent.mkdir(parents=True, exist_ok=True)
        content: dict[str, Any] = {
            "version": VERSION,
            "flags": {},
            "shapes": [shape for row in of_image for shape in _shapes(row)],
            "imagePath": os.path.relpath(image.file.resolve(), file.parent.resolve()),
            "imageData": None,
            "imageHeight": image.height,
            "imageWidth": image.width,
        }
        file.write_text(json.dumps(content, indent=1))


def _shapes(row: MaskRow) -> list[dict[str, Any]]:
    return [
        {
            "label": row.category,
            "points": ring.tolist(),
            "group_id": int(row.number),
            "description": "; ".join(row.texts),
            "shape_type": "polygon",
            "flags": {},
        }
        for ring in polygons(row.decode())
    ]
