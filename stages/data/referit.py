"""ReferIt in the files of TRIS and MultiGrounding: a pickle for each split, photographs of SAIAPR.

`<split>.pickle` maps the number of an image to `size` (height, width, 3) and `annotations`, one for
each expression: `ref_id`, `query`, `bbox` (a list of corners) and `segmentation` (COCO's). The
photographs are named by their numbers. Both can be anywhere within the given folders, as in the
published archives.

TRIS trains on all refs and evaluates those whose first box covers more than 5 % of the image
(dataset/Dataset_referit.py, ImageLoader). Here, too, other refs are left out of all splits but
train.
"""

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from stages.data.entries import Entry, Expression, Finding
from stages.data.refer import load_plain
from stages.runtime.errors import InputError
from stages.runtime.foreign_errors import unreadable

SPLITS = ("train", "val", "test")
EVALUATED = 0.05  # of the image: a ref whose box is smaller is not evaluated

log = logging.getLogger(__name__)


def read_referit(folder: Path, images: Path) -> Iterator[Entry | Finding]:
    """The refs of all splits that exist, image by image."""
    annotations = {split: sorted(folder.rglob(f"{split}.pickle")) for split in SPLITS}
    if not any(annotations.values()):
        raise InputError(f"{folder}: no train.pickle in it; needed TRIS's annotations of ReferIt")
    files = {file.stem: file for file in sorted(images.rglob("*.jpg"))}
    for split, paths in annotations.items():
        if len(paths) > 1:
            raise InputError(f"{paths[0]} and {paths[1]}: needed one file for each split")
        for path in paths:
            num_small = 0
            for number, content in _load(path).items():
                place = f"{path}: image {number}"
                image = files.get(str(number), images / f"{number}.jpg")
                for entry in _refs(content, place, split, image):
                    if isinstance(entry, Entry) and split != "train" and not _is_evaluated(entry):
                        num_small += 1
                    else:
                        yield entry
            if num_small:
                log.info(
                    "%s: %d small objects are left out, as in the official code", path, num_small
                )


def _load(path: Path) -> dict[Any, Any]:
    try:
        content = load_plain(path.read_bytes())
    except Exception as error:  # a damaged pickle can raise any exception
        reason = unreadable(path, error)
        raise InputError(f"{path}: cannot be read ({reason}); needed plain containers") from None
    if not isinstance(content, dict):
        raise InputError(f"{path}: holds {type(content).__name__}; needed images by their numbers")
    return content


def _refs(content: Any, place: str, split: str, image: Path) -> Iterator[Entry | Finding]:
    """The refs of one image, with all of their expressions."""
    entries: dict[Any, Entry] = {}
    try:
        height, width = int(content["size"][0]), int(content["size"][1])
        for number, annotation in enumerate(content["annotations"]):
            name = annotation["ref_id"]
            if name not in entries:
                entries[name] = Entry(
                    place=f"{place}, ref {name}",
                    name=str(name),
                    image=image,
                    split=split,
                    expressions=[],
                    places=[],
                    boxes=[_extent(corners) for corners in annotation["bbox"]],
                    segmentations=[annotation["segmentation"]],
                    size=(width, height),
                )
            entries[name].expressions.append(Expression(annotation["query"]))
            entries[name].places.append(f"{place}, annotation {number}")
    except KeyError as error:
        yield Finding(place, f"nothing under {error}; needed annotations as TRIS has them")
    except (TypeError, ValueError, IndexError) as error:
        yield Finding(place, f"{error}; needed annotations as TRIS has them")
    else:
        yield from entries.values()


def _extent(corners: Any) -> list[float]:
    """x, y, width and height of two corners."""
    left, top, right, bottom = (float(value) for value in corners)
    return [left, top, right - left, bottom - top]


def _is_evaluated(entry: Entry) -> bool:
    if not entry.boxes or entry.size is None:
        return True
    _, _, width, height = entry.boxes[0]
    return width * height > EVALUATED * entry.size[0] * entry.size[1]
