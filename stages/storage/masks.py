"""Binary masks as COCO's compressed run lengths, and pixels counted on them without decoding."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco

Mask = NDArray[np.bool_]


def encode(mask: Mask) -> str:
    """COCO run-length counts of a mask (H, W)."""
    return str(coco.encode(np.asfortranarray(mask, dtype=np.uint8))["counts"].decode("ascii"))


def area(counts: str, height: int, width: int) -> int:
    """The pixels of a mask (height, width), from its run-length counts."""
    return int(coco.area({"size": [height, width], "counts": counts.encode("ascii")}))


def common_area(masks: Sequence[str], height: int, width: int) -> int:
    """The pixels that are in all of some masks (height, width), from their run-length counts."""
    runs = [{"size": [height, width], "counts": counts.encode("ascii")} for counts in masks]
    return int(coco.area(coco.merge(runs, intersect=True)))


def contains(counts: str, point: tuple[int, int], height: int, width: int) -> bool:
    """Whether a point (row, column) is in a mask (height, width) of run-length counts."""
    before = point[1] * height + point[0]  # column by column
    runs = {"size": [height, width], "counts": [before, 1, height * width - before - 1]}
    pixel = str(coco.frPyObjects(runs, height, width)["counts"].decode("ascii"))
    return common_area([counts, pixel], height, width) == 1


def decode(counts: str, height: int, width: int) -> Mask:
    """The mask (height, width) of COCO run-length counts."""
    run_lengths = {"size": [height, width], "counts": counts.encode("ascii")}
    return coco.decode(run_lengths).astype(bool)
