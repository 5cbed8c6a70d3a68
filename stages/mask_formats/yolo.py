"""YOLO's segmentation format: a text file of polygons for each image, and data.yaml.

A line is an object: its class and one polygon, in fractions of the image. Parts and holes are
joined by lines that enclose no pixel. Of predictions, the expression with the highest score counts.
`images/` has links to the images, where the format looks for them.
"""

from pathlib import Path

import yaml

from stages.mask_formats.panoptic import one_of_each_object
from stages.mask_formats.polygons import joined, polygons
from stages.mask_formats.rows import ImageRow, MaskRow, MaskRows

DIGITS = 6  # of a fraction: a thousandth of a pixel in an image of a thousand
FILE = "data.yaml"


def write_yolo(folder: Path, rows: MaskRows) -> None:
    numbers = {name: number for number, name in enumerate(rows.categories)}
    splits: dict[str, str] = {}
    for image, of_image in rows.of_images():
        lines = [_line(row, numbers[row.category]) for row in one_of_each_object(of_image)]
        split = image.split
        splits[split] = f"images/{split}"
        labels = folder / "labels" / split / f"{image.label}.txt"
        labels.parent.mkdir(parents=True, exist_ok=True)
        labels.write_text("".join(f"{line}\n" for line in lines))
        _link(folder / "images" / split / f"{image.label}{image.file.suffix}", image)
    # `val` is asked for by trainings; without one, the first split is there twice.
    names = {number: name for name, number in numbers.items()}
    usual = {name: splits.get(name, next(iter(splits.values()))) for name in ("train", "val")}
    content = {**usual, **splits, "names": names}
    (folder / FILE).write_text(yaml.safe_dump(content, sort_keys=False))


def _line(row: MaskRow, number: int) -> str:
    corners = joined(polygons(row.decode())) / (row.image.width, row.image.height)
    return " ".join([str(number), *(f"{value:.{DIGITS}f}" for value in corners.ravel())])


def _link(place: Path, image: ImageRow) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    place.symlink_to(image.file.resolve())
