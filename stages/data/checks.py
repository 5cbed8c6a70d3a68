"""Check the entries of a source: image, expressions, boxes and mask.

Pillow decodes without holding the GIL, so threads use all cores.
"""

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, UnidentifiedImageError

from stages.config.datasets import DatasetConfig
from stages.data.entries import LONGEST, Entry, Finding
from stages.data.segmentation import object_run_lengths
from stages.data.spool import Spool
from stages.storage import masks

BOX_SLACK = 1.0  # pixels that a box may reach over the image: published ones are rounded
ORIENTATION, SIDEWAYS = 0x0112, (5, 6, 7, 8)  # EXIF tag, and its values for a turn by 90 degrees
AHEAD = 256  # entries that are checked in advance

Decoded = tuple[int, int] | str  # width and height, or the reason why it does not decode


@dataclass
class Checked:
    """An entry with the size of its image and its mask, or with findings if it is wrong."""

    entry: Entry
    is_right: bool = False
    size: tuple[int, int] = (0, 0)  # width and height
    mask: str | None = None  # run lengths
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
    """Width and height of an image, or why it does not decode."""
    try:
        with Image.open(file) as image:
            size = upright_size(image)
            # A JPEG is read to its end, but decoded at an eighth of its size.
            image.draft(None, (1, 1))
            image.load()
            return size
    except FileNotFoundError:
        return "no such image; names are relative to the folder given as images"
    except UnidentifiedImageError:
        return "not an image; needed a file that Pillow can read"
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        return f"does not decode ({error}); needed the whole image"


def upright_size(opened: Image.Image) -> tuple[int, int]:
    """Width and height of an opened image in upright orientation, without decoding it."""
    width, height = opened.size
    is_sideways = opened.getexif().get(ORIENTATION, 1) in SIDEWAYS
    return (height, width) if is_sideways else (width, height)


def check(entry: Entry, decoded: Future[Decoded], config: DatasetConfig) -> Checked:
    """Check everything in an entry; expressions that cannot be used are removed from it."""
    checked, size = Checked(entry), decoded.result()

    def reject(message: str) -> Checked:
        checked.findings.append(Finding(entry.place, message))
        return checked

    if isinstance(size, str):
        return reject(f"image {entry.image}: {size}")
    if entry.size is not None and entry.size != size:
        message = "image {} has {} x {} pixels; annotated are {} x {}"
        return reject(message.format(entry.image, *size, *entry.size))
    if not _is_unicode(entry.name, entry.split, entry.category or ""):
        return reject("half of a character (a lone surrogate) in its names; needed text")
    checked.findings += _check_expressions(entry)
    if not entry.expressions:
        return checked
    wrong = _wrong_box(entry.boxes or [], *size)
    if wrong:
        return reject(wrong)
    try:
        checked.mask = _draw_mask(entry, *size, config)
    except (OSError, ValueError) as error:
        return reject(f"its mask: {error}; needed one of {size[0]} x {size[1]}")
    checked.is_right, checked.size = True, size
    return checked


def _check_expressions(entry: Entry) -> Iterator[Finding]:
    """Remove the expressions that cannot be used from the entry."""
    if not entry.expressions:
        yield Finding(entry.place, "no expression; needed one or more for each object")
    kept = []
    for expression, place in zip(entry.expressions, entry.places, strict=True):
        fault = _fault(expression.text)
        if fault is None and expression.raw is not None and (of_raw := _fault(expression.raw)):
            fault = f"raw: {of_raw}"
        if fault is None:
            kept.append(expression)
        else:
            yield Finding(place, fault)
    entry.expressions = kept


def _fault(text: Any) -> str | None:
    """Why a text cannot be used, and what is needed."""
    if not isinstance(text, str) or not text.strip():
        return "empty expression; needed words"
    if not _is_unicode(text):
        return "half of a character (a lone surrogate); needed text"
    if len(text) > LONGEST:
        return f"{len(text)} characters; needed at most {LONGEST}"
    return None


def _is_unicode(*texts: str) -> bool:
    """Whether texts can be written to a file (JSON can hold lone surrogates, which cannot)."""
    try:
        "".join(texts).encode()
    except UnicodeEncodeError:
        return False
    return True


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
    """Run lengths of the entry's mask, None if the source has none; fills in its boxes."""
    if entry.mask_file is not None:
        with Image.open(entry.mask_file) as opened:
            has_colors = opened.mode in ("RGB", "RGBA", "LA")
            mask = np.asarray(opened.convert("RGB").convert("L") if has_colors else opened) > 0
        if mask.shape != (height, width):
            file = entry.mask_file if isinstance(entry.mask_file, Path) else "it"
            raise ValueError(f"{file} has {mask.shape[1]} x {mask.shape[0]} pixels")
        entry.no_target = not mask.any()
        entry.boxes = [] if entry.no_target else [_box(mask)]
        return masks.encode(mask)
    if entry.segmentations is None:
        return None
    drawn = object_run_lengths(entry.segmentations, height, width, config.overlap)
    if drawn is None and not entry.no_target:
        raise ValueError("no pixel")
    return drawn or masks.encode(np.zeros((height, width), dtype=bool))


def _box(mask: masks.Mask) -> list[float]:
    """x, y, width and height of the pixels of a mask."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    x, y = int(columns[0]), int(rows[0])
    return [float(x), float(y), float(columns[-1] + 1 - x), float(rows[-1] + 1 - y)]
