"""CVAT's format "CVAT for images 1.1": annotations.xml with a run-length mask of each object.

A `<mask>` has the pixels of its box row by row, as lengths of runs that begin outside.
"""

from itertools import groupby
from pathlib import Path
from xml.etree import ElementTree as Xml

import numpy as np

from stages.mask_formats.rows import MaskRow, MaskRows

NAME = "annotations.xml"
ATTRIBUTE = "expressions"


def write_cvat(folder: Path, rows: MaskRows) -> None:
    root = Xml.Element("annotations")
    Xml.SubElement(root, "version").text = "1.1"
    labels = Xml.SubElement(Xml.SubElement(Xml.SubElement(root, "meta"), "task"), "labels")
    for name in rows.categories:
        label = Xml.SubElement(labels, "label")
        Xml.SubElement(label, "name").text = name
        attribute = Xml.SubElement(Xml.SubElement(label, "attributes"), "attribute")
        values = {"name": ATTRIBUTE, "mutable": "False", "input_type": "text"}
        for key, value in {**values, "default_value": "", "values": ""}.items():
            Xml.SubElement(attribute, key).text = value
    for image, of_image in rows.of_images():
        size = {"width": str(image.width), "height": str(image.height)}
        about = {"id": str(image.number), "name": image.name, **size}
        element = Xml.SubElement(root, "image", about)
        for order, row in enumerate(of_image):
            _add_mask(element, row, order)
    Xml.indent(root)
    Xml.ElementTree(root).write(folder / NAME, encoding="utf-8", xml_declaration=True)


def _add_mask(image: Xml.Element, row: MaskRow, order: int) -> None:
    mask = row.decode()
    lines, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    top, left, bottom, right = lines[0], columns[0], lines[-1] + 1, columns[-1] + 1
    pixels = mask[top:bottom, left:right].ravel().tolist()
    runs = [len(list(run)) for _, run in groupby(pixels)]
    box = {"left": left, "top": top, "width": right - left, "height": bottom - top}
    element = Xml.SubElement(
        image,
        "mask",
        {
            "label": row.category,
            "source": "file",
            "occluded": "0",
            "rle": ", ".join(map(str, runs if not pixels[0] else [0, *runs])),
            **{name: str(value) for name, value in box.items()},
            "z_order": str(order),
        },
    )
    Xml.SubElement(element, "attribute", {"name": ATTRIBUTE}).text = "; ".join(row.texts)
