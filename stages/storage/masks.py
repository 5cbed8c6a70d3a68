"""Binary masks as COCO's compressed run lengths."""

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


def decode(counts: str, height: int, width: int) -> Mask:
    """The mask (height, width) of COCO run-length counts."""
    run_lengths = {"size": [height, width], "counts": counts.encode("ascii")}
    return coco.decode(run_lengths).astype(bool)
