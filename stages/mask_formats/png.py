"""Black and white PNG files, one a mask, and table.csv: an own data set that `prepare` reads.

`table.csv` has the columns of an own table; paths are relative to it. Empty masks are there too:
they say that there is no target.
"""

import csv
import os
from pathlib import Path

from PIL import Image

from stages.mask_formats.rows import MaskRow, MaskRows
from stages.storage.files import plain_name

TABLE = "table.csv"
COLUMNS = ("image", "expression", "split", "object", "mask")


def write_png(folder: Path, rows: MaskRows) -> None:
    with (folder / TABLE).open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(COLUMNS)
        for row in rows:
            mask = f"masks/{mask_name(row)}.png"
            place = folder / mask
            place.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(row.decode()).convert("L").save(place)
            image = os.path.relpath(row.image.file.resolve(), folder.resolve())
            for text in row.texts:
                table.writerow([image, text, row.split, row.number, mask])


def mask_name(row: MaskRow) -> str:
    """The name of a mask: its image, its number in the samples, its first expression."""
    image = plain_name(Path(row.image.name).stem)
    return "-".join(filter(None, (image, f"{row.number:06d}", plain_name("".join(row.texts[:1])))))
