"""Turn any annotation source into the samples tables, checked row by row.

Every image is decoded in full, every mask is drawn, every expression is looked at. What is wrong is
told with its place. `on_bad_row: stop` (the default) then ends here; `drop` goes on without those
rows and names each of them.
"""

import logging
import os
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image, UnidentifiedImageError

from stages.core import masks
from stages.core.command import main
from stages.core.config import DatasetConfig
from stages.core.errors import InputError
from stages.core.files import write_json
from stages.core.tables import SCHEMAS, Samples, count_samples, write_samples
from stages.data.images import upright_size
from stages.data.refer import segmentation_mask
from stages.data.sources import Entry, Findings, read_source

MOST_SHOWN = 20  # findings in one error message
LONGEST = 1000  # characters of an expression; a longer one is a mistake in the file
BOX_SLACK = 1.0  # pixels that a box may reach over the image: published ones are rounded

log = logging.getLogger(__name__)


def run(samples: Path, config: DatasetConfig) -> None:
    """Write the tables of images, objects and expressions, then `samples` (.json) beside them."""
    findings = Findings()
    entries = list(read_source(config, findings))
    sizes = check_images(entry.image for entry in entries)
    checked = _assemble(_check_entries(entries, sizes, config, findings))
    if findings.lines and config.on_bad_row == "stop":
        raise InputError(_summary(findings))
    for line in findings.lines:
        log.warning("left out: %s", line)
    if findings.lines:
        log.warning("%d rows were left out, each named above", len(findings.lines))
    if checked.objects.empty:
        raise InputError(f"{config.annotations}: no object is left; needed at least one")
    write_samples(samples.parent, checked)
    counts = count_samples(checked)
    _compare(counts, config.published)
    write_json(samples, {"splits": counts, "left_out": len(findings.lines)})


def check_images(files: Iterable[Path]) -> dict[Path, tuple[int, int] | str]:
    """Width and height of every image that decodes in full; what is wrong with each other one."""
    unique = list(dict.fromkeys(files))
    # Pillow decodes outside of python's lock, so threads are enough.
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        return dict(zip(unique, pool.map(_decode, unique), strict=True))


def _decode(file: Path) -> tuple[int, int] | str:
    """Width and height of an image, or what is wrong with it."""
    try:
        with Image.open(file) as image:
            image.load()
            return upright_size(image)
    except FileNotFoundError:
        return "no such image; names are relative to the folder given as images"
    except UnidentifiedImageError:
        return "not an image; needed a file that Pillow can read"
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        return f"does not decode ({error}); needed the whole image"


def _check_entries(
    entries: list[Entry],
    sizes: dict[Path, tuple[int, int] | str],
    config: DatasetConfig,
    findings: Findings,
) -> Iterator[tuple[Entry, tuple[int, int], str | None]]:
    """The right entries with image size and mask as run lengths; findings for the others."""
    for entry in entries:
        size = sizes[entry.image]
        if isinstance(size, str):
            findings.add(entry.place, f"image {entry.image}: {size}")
            continue
        if entry.size is not None and entry.size != size:
            found = "image {} has {} x {} pixels; annotated are {} x {}"
            findings.add(entry.place, found.format(entry.image, *size, *entry.size))
            continue
        _check_expressions(entry, findings)
        if not entry.expressions:
            continue
        wrong = _wrong_box(entry.boxes or [], *size)
        if wrong:
            findings.add(entry.place, wrong)
            continue
        try:
            yield entry, size, _draw_mask(entry, *size, config)
        except (OSError, ValueError) as error:
            findings.add(entry.place, f"its mask: {error}; needed one of {size[0]} x {size[1]}")


def _check_expressions(entry: Entry, findings: Findings) -> None:
    """Take the expressions that cannot be used out of the entry."""
    if not entry.expressions:
        findings.add(entry.place, "no expression; needed one or more for each object")
    kept = []
    for (text, kind), place in zip(entry.expressions, entry.places, strict=True):
        if not isinstance(text, str) or not text.strip():
            findings.add(place, "empty expression; needed words")
        elif len(text) > LONGEST:
            findings.add(place, f"{len(text)} characters; needed at most {LONGEST}")
        else:
            kept.append((text, kind))
    entry.expressions = kept


def _wrong_box(boxes: list[list[float]], width: int, height: int) -> str | None:
    for box in boxes:
        if len(box) != 4 or not np.isfinite(box).all() or min(box[2:]) <= 0:
            return f"box {box}; needed x, y, width and height in pixels"
        x, y, w, h = box
        low, high = min(x, y), max(x + w - width, y + h - height)
        if low < -BOX_SLACK or high > BOX_SLACK:
            return f"box {box} reaches out of its image of {width} x {height}"
    return None


def _draw_mask(entry: Entry, width: int, height: int, config: DatasetConfig) -> str | None:
    """Run lengths of the entry's mask, None if the source has none; sets its missing facts."""
    if entry.mask_file is not None:
        with Image.open(entry.mask_file) as picture:
            has_colors = picture.mode in ("RGB", "RGBA", "LA")
            mask = np.asarray(picture.convert("RGB").convert("L") if has_colors else picture) > 0
        if mask.shape != (height, width):
            file = entry.mask_file if isinstance(entry.mask_file, Path) else "it"
            raise ValueError(f"{file} has {mask.shape[1]} x {mask.shape[0]} pixels")
        entry.no_target = not mask.any()
        entry.boxes = [] if entry.no_target else [_box(mask)]
        return masks.encode(mask)
    if entry.segmentations is None:
        return None
    mask = np.zeros((height, width), dtype=bool)
    for segmentation in entry.segmentations:
        mask |= segmentation_mask(segmentation, height, width, config.overlap)
    if not mask.any() and not entry.no_target:
        raise ValueError("no pixel")
    return masks.encode(mask)


def _box(mask: masks.Mask) -> list[float]:
    """x, y, width and height of what is set in a mask."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    x, y = int(columns[0]), int(rows[0])
    return [float(x), float(y), float(columns[-1] + 1 - x), float(rows[-1] + 1 - y)]


def _assemble(checked: Iterable[tuple[Entry, tuple[int, int], str | None]]) -> Samples:
    """The three tables; ids are row numbers, in the order of the source."""
    images: dict[Path, dict[str, Any]] = {}
    objects: list[dict[str, Any]] = []
    expressions: list[dict[str, Any]] = []
    for entry, (width, height), mask in checked:
        target, image = len(objects), images.get(entry.image, {"image": len(images)})
        images[entry.image] = image | {
            "file": entry.image.as_posix(),
            "width": width,
            "height": height,
        }
        objects.append(
            {
                "object": target,
                "image": image["image"],
                "split": entry.split,
                "name": entry.name,
                "category": entry.category,
                "boxes": entry.boxes,
                "mask": mask,
                "no_target": entry.no_target,
            }
        )
        for text, kind in entry.expressions:
            number = len(expressions)
            expressions.append({"expression": number, "object": target, "text": text, "kind": kind})
    rows = {"images": list(images.values()), "objects": objects, "expressions": expressions}
    return Samples(
        *(pd.DataFrame(table, columns=SCHEMAS[kind].names) for kind, table in rows.items())
    )


def _summary(findings: Findings) -> str:
    shown = findings.lines[:MOST_SHOWN]
    more = len(findings.lines) - len(shown)
    if more:
        shown.append(f"... and {more} more")
    count = f"{len(findings.lines)} bad rows; put them right, or leave them out by on_bad_row: drop"
    return "\n".join([count, *shown])


def _compare(counts: dict[str, dict[str, int]], published: dict[str, int]) -> None:
    """Say whether each split has as many objects as published."""
    for split, expected in published.items():
        found = counts.get(split, {}).get("objects", 0)
        if found == expected:
            log.info("%s: %s objects, as published", split, f"{found:,}")
        else:
            log.warning("%s: %s objects; published are %s", split, f"{found:,}", f"{expected:,}")


if __name__ == "__main__":
    main(run)
