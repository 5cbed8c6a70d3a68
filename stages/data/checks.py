"""Check the entries of a source: image, expressions, boxes and mask.

Pillow decodes without holding the GIL, so threads use all cores.
"""

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import UnidentifiedImageError

from stages.config.datasets import DatasetConfig
from stages.data.entries import Entry, Finding, expression_fault, is_unicode, split_fault
from stages.data.formats import FORMATS, open_image
from stages.data.orientation import (
    SIDEWAYS,
    UPRIGHT,
    decode_upright,
    orientation_of,
    stored_size,
    turn_box,
    turn_mask,
)
from stages.data.outlines import are_fractions
from stages.data.pixels import IMAGE_ERRORS, color_fault, object_pixels
from stages.data.segmentation import object_run_lengths
from stages.data.spool import Spool
from stages.runtime.file_kinds import describe_file
from stages.runtime.foreign_errors import one_line
from stages.storage import masks

BOX_SLACK = 1.0  # pixels that a box may reach over the image: published ones are rounded
AHEAD = 256  # entries that are checked in advance

# Width and height of the stored pixels and the orientation, or why an image does not decode.
Decoded = tuple[int, int, int] | str


@dataclass
class Checked:
    """An entry with the size of its image and its mask, or with findings if it is wrong."""

    entry: Entry
    is_right: bool = False
    size: tuple[int, int] = (0, 0)  # width and height, upright
    orientation: int = UPRIGHT  # EXIF's, of the image
    mask: str | None = None  # run lengths, upright
    note: str | None = None  # what is to be told of the mask, though it can be used
    findings: list[Finding] = field(default_factory=list)


def check_all(
    source: Iterator[Entry | Finding], config: DatasetConfig, scratch: Path, workers: int
) -> Iterator[Checked | Finding]:
    """The items of a source in order, checked by `workers` threads; images are decoded once."""
    waiting: deque[Future[Checked] | Finding] = deque()
    with (
        ThreadPoolExecutor(workers) as pool,
        Spool(scratch / "sizes.sqlite") as spool,
    ):
        sizes = _Sizes(pool, spool)

        def next_checked() -> Checked | Finding:
            job = waiting.popleft()
            if isinstance(job, Finding):
                return job
            checked = job.result()
            sizes.keep(checked.entry.image)
            return checked

        for item in source:
            if isinstance(item, Finding):
                waiting.append(item)
            else:
                waiting.append(pool.submit(check, item, sizes.ask(item.image), config))
            if len(waiting) > AHEAD:
                yield next_checked()
        while waiting:
            yield next_checked()


class _Sizes:
    """The size of every image; each is decoded once for all its entries."""

    def __init__(self, pool: ThreadPoolExecutor, spool: Spool) -> None:
        self.pool, self.spool = pool, spool
        self.asked: dict[Path, Future[Decoded]] = {}  # of entries that are still being checked

    def ask(self, file: Path) -> Future[Decoded]:
        if file not in self.asked:
            known = self.spool.get(str(file))
            if not known:
                self.asked[file] = self.pool.submit(_decode, file)
            else:
                done: Future[Decoded] = Future()
                done.set_result(known[0] if isinstance(known[0], str) else tuple(known[0]))
                return done
        return self.asked[file]

    def keep(self, file: Path) -> None:
        """Move a result from memory to the disk."""
        if file in self.asked:
            self.spool.add(str(file), self.asked.pop(file).result())


def _decode(file: Path) -> Decoded:
    """The size and orientation of an image, or why it does not decode."""
    if file.is_dir():
        return "a folder; needed the file of an image"
    try:
        with open_image(file) as image:
            if (fault := color_fault(image)) is not None:
                return fault
            size = (*stored_size(image), orientation_of(image))
            # A JPEG is read to its end, but decoded at an eighth of its size.
            image.draft(None, (1, 1))
            image.load()
            return size
    except FileNotFoundError:
        return "no such image; names are relative to the folder given as images"
    except UnidentifiedImageError:
        kind = describe_file(file)
        what = f"it is {kind}" if kind else "its format is not known"
        return f"not an image ({what}); needed one of {', '.join(FORMATS)}"
    except IMAGE_ERRORS as error:
        return f"does not decode ({one_line(str(error))}); needed the whole image"


def check(entry: Entry, decoded: Future[Decoded], config: DatasetConfig) -> Checked:
    """Check everything in an entry; expressions that cannot be used are removed from it."""
    checked, image = Checked(entry), decoded.result()

    def reject(message: str) -> Checked:
        checked.findings.append(Finding(entry.place, message))
        return checked

    if isinstance(image, str):
        return reject(f"image {entry.image}: {image}")
    width, height, orientation = image
    stored = (width, height)
    upright = (height, width) if orientation in SIDEWAYS else stored
    if entry.size is not None and entry.size != stored:
        tag = f" (its EXIF orientation is {orientation}; needed the stored pixels)"
        return reject(
            f"image {entry.image} has {width} x {height} pixels; annotated are"
            f" {entry.size[0]} x {entry.size[1]}{tag if orientation != UPRIGHT else ''}"
        )
    if not is_unicode(entry.name, entry.split, entry.category or ""):
        return reject("half of a character (a lone surrogate) in its names; needed text")
    if (fault := split_fault(entry.split)) is not None:
        return reject(fault)
    checked.findings += _check_expressions(entry)
    if not entry.expressions:
        return checked
    wrong = _wrong_box(entry.boxes or [], *stored)
    if wrong:
        return reject(wrong)
    frame = upright if entry.frame == "upright" else stored
    try:
        mask, checked.note = _draw_mask(entry, *frame, config)
    except IMAGE_ERRORS as error:
        reason = one_line(str(error))
        return reject(f"its mask: {reason}; needed one of {frame[0]} x {frame[1]}")
    if orientation != UPRIGHT and entry.frame == "stored":
        mask = _turned(entry, mask, stored, orientation)
    checked.mask, checked.orientation = mask, orientation
    checked.is_right, checked.size = True, upright
    return checked


def _turned(
    entry: Entry, mask: str | None, stored: tuple[int, int], orientation: int
) -> str | None:
    """The mask turned upright with its image; the entry's boxes too."""
    width, height = stored
    if entry.boxes is not None:
        entry.boxes = [turn_box(box, width, height, orientation) for box in entry.boxes]
    if mask is None:
        return None
    return masks.encode(turn_mask(masks.decode(mask, height, width), orientation))


def _check_expressions(entry: Entry) -> Iterator[Finding]:
    """Remove the expressions that cannot be used from the entry."""
    if not entry.expressions:
        yield Finding(entry.place, "no expression; needed one or more for each object")
    kept = []
    for expression, place in zip(entry.expressions, entry.places, strict=True):
        fault = expression_fault(expression.text)
        if fault is None and expression.raw is not None:
            of_raw = expression_fault(expression.raw)
            fault = f"raw: {of_raw}" if of_raw is not None else None
        if fault is None:
            kept.append(expression)
        else:
            yield Finding(place, fault)
    entry.expressions = kept


def _wrong_box(boxes: list[list[float]], width: int, height: int) -> str | None:
    for box in boxes:
        if len(box) != 4 or not np.isfinite(box).all() or min(box[2:]) <= 0:
            return f"box {box}; needed x, y, width and height in pixels"
        if are_fractions(box):
            return f"box {box} lies between 0 and 1, in fractions of the image; needed pixels"
        x, y, w, h = box
        low, high = min(x, y), max(x + w - width, y + h - height)
        if low < -BOX_SLACK or high > BOX_SLACK:
            return f"box {box} reaches out of its image of {width} x {height}"
    return None


def _draw_mask(
    entry: Entry, width: int, height: int, config: DatasetConfig
) -> tuple[str | None, str | None]:
    """Run lengths of the entry's mask, None if the source has none, and what is to be told of it.

    Fills in the boxes of the entry.
    """
    if entry.mask_file is not None:
        mask, note = _read_mask(entry)
        if mask.shape != (height, width):
            file = entry.mask_file if isinstance(entry.mask_file, Path) else "it"
            raise ValueError(f"{file} has {mask.shape[1]} x {mask.shape[0]} pixels")
        entry.no_target = not mask.any()
        entry.boxes = [] if entry.no_target else [_box(mask)]
        return masks.encode(mask), note
    if entry.segmentations is None:
        return None, None
    drawn = object_run_lengths(entry.segmentations, height, width, config.overlap)
    if drawn is None and not entry.no_target:
        raise ValueError("no pixel")
    return drawn or masks.encode(np.zeros((height, width), dtype=bool)), None


def _read_mask(entry: Entry) -> tuple[masks.Mask, str | None]:
    """The mask of a file, and what is to be told of it."""
    file = entry.mask_file
    assert file is not None
    if isinstance(file, Path) and file.is_dir():
        raise ValueError(f"{file} is a folder")
    if isinstance(file, Path) and not file.exists():
        raise ValueError(f"{file} is not there")
    place = f"{file}: " if isinstance(file, Path) else ""
    with open_image(file) as opened:
        kind = opened.format
        image = decode_upright(opened) if entry.frame == "upright" else opened
        try:
            mask, note = object_pixels(image, kind)
        except ValueError as error:
            raise ValueError(f"{place}{error}") from None
    return mask, f"{place}{note}" if note else None


def _box(mask: masks.Mask) -> list[float]:
    """x, y, width and height of the pixels of a mask."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    x, y = int(columns[0]), int(rows[0])
    return [float(x), float(y), float(columns[-1] + 1 - x), float(rows[-1] + 1 - y)]
