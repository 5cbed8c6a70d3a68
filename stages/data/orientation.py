"""EXIF orientation: how an image is turned to stand upright, and its annotations with it.

Every image is read upright, as viewers show it. Annotations are of one of two frames, by source:

- `stored`: REFER, gRefCOCO, ReferIt and LMDB are annotated on the pixels as they are stored, by
  tools that do not know the tag. Masks and boxes are turned with the image.
- `upright`: a mask of a user's own table is an image too, and is turned by its own tag: image and
  mask must fit as viewers show them.

The tag has values from 1 to 8 (EXIF 2.32, 4.6.4 A): mirrored ones and turns by 90 degrees. Other
values, which some cameras write, mean nothing and are ignored.
"""

from typing import Literal

import numpy as np
from PIL import Image

from stages.storage.masks import Mask

Frame = Literal["stored", "upright"]
TAG = 0x0112
UPRIGHT, SIDEWAYS = 1, (5, 6, 7, 8)  # as it is stored; those of a turn by 90 degrees
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
BACK = {6: 8, 8: 6}  # the others undo themselves


def orientation_of(opened: Image.Image) -> int:
    """The orientation of an image that is open and not decoded yet."""
    value = opened.getexif().get(TAG, UPRIGHT)
    return value if isinstance(value, int) and value in TURNS else UPRIGHT


def stored_size(opened: Image.Image) -> tuple[int, int]:
    """Width and height of the pixels as they are stored, of an image that is not decoded yet."""
    width, height = opened.size
    # Pillow turns TIFF by itself when it decodes it, and gives the size of that at once.
    is_turned = opened.format == "TIFF" and orientation_of(opened) in SIDEWAYS
    return (height, width) if is_turned else (width, height)


def upright_size(opened: Image.Image) -> tuple[int, int]:
    """Width and height of an image in upright orientation, without decoding it."""
    width, height = stored_size(opened)
    return (height, width) if orientation_of(opened) in SIDEWAYS else (width, height)


def decode_upright(opened: Image.Image) -> Image.Image:
    """The image decoded and turned upright."""
    orientation = orientation_of(opened)
    opened.load()
    if orientation == UPRIGHT or opened.format == "TIFF":
        return opened
    return opened.transpose(TURNS[orientation])


def turn_mask(mask: Mask, orientation: int) -> Mask:
    """The mask (H, W) of the stored pixels, turned upright with its image."""
    if orientation == UPRIGHT:
        return mask
    return np.ascontiguousarray(np.asarray(Image.fromarray(mask).transpose(TURNS[orientation])))


def turn_back(mask: Mask, orientation: int) -> Mask:
    """The mask (H, W) of an upright image, turned as its pixels are stored."""
    return turn_mask(mask, BACK.get(orientation, orientation))


def turn_box(box: list[float], width: int, height: int, orientation: int) -> list[float]:
    """x, y, width and height of a box in an image whose stored size is given, turned upright."""
    x, y, w, h = box
    right, below = width - x - w, height - y - h
    turned = {
        1: (x, y, w, h),
        2: (right, y, w, h),
        3: (right, below, w, h),
        4: (x, below, w, h),
        5: (y, x, h, w),
        6: (below, x, h, w),
        7: (below, right, h, w),
        8: (y, right, h, w),
    }
    return list(turned[orientation])
