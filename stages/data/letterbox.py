"""Letterbox: images scaled into the middle of a square, and back (CRIS, ETRIS, DETRIS).

Equal to official utils/dataset.py, getTransformMat, with OpenCV 4's warpAffine, which OpenCV 5
changed: coordinates are rounded to 1/32 pixel, images are interpolated in integers. There is no
antialiasing, and scaling is relative to the corner of the first pixel, not to its center. As images
are only scaled and moved, rows and columns are interpolated one after the other.

Shapes: H x W pixels of the image, S x S of the square, T masks.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from stages.storage.masks import Mask

BORDER = (123, 117, 104)  # CLIP's mean color, around images; masks have 0
COORDINATE_BITS = 10  # OpenCV's fixed point: coordinates are rounded to 1 / 1024, then
FRACTION_BITS = 5  # the nearest 1 / 32
WEIGHT_BITS = 15  # of the integer weights of 8-bit images
CUBIC_SHARPNESS = -0.75

Weights = NDArray[np.float32]


@dataclass(frozen=True)
class Axis:
    """The input pixels (taps) and weights of each output pixel along one axis."""

    places: NDArray[np.int64]  # (outputs, taps), may lie outside of the input
    weights: Weights  # (outputs, taps)


class Reading(NamedTuple):
    """How an image with a border of one pixel is read along both axes."""

    down: NDArray[np.int64]  # (outputs, taps)
    across: NDArray[np.int64]
    table: NDArray[np.int32]  # (kinds of rows, kinds of columns, taps, taps): integer weights
    row_kind: NDArray[np.int64]  # (outputs,)
    column_kind: NDArray[np.int64]


def matrices(height: int, width: int, size: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The official 2 x 3 maps from image to square and back, of points rounded to float32."""
    scale = min(size / height, size / width)
    new = np.array([width * scale, height * scale])
    bias = (size - new) / 2
    corners = np.array([[0, 0], [width, 0], [0, height]], np.float32)
    images = (bias + np.array([[0, 0], [new[0], 0], [0, new[1]]])).astype(np.float32)
    return _affine(corners, images), _affine(images, corners)


def _affine(points: NDArray[np.float32], images: NDArray[np.float32]) -> NDArray[np.float64]:
    system = np.column_stack([points.astype(np.float64), np.ones(3)])
    return np.linalg.solve(system, images.astype(np.float64)).T


def letterbox(image: Image.Image, size: int) -> Tensor:
    """An RGB image in the middle of a square of CLIP's mean color: uint8 (3, S, S)."""
    pixels = np.asarray(image).astype(np.int32)
    reading = _reading(image.height, image.width, size, cubic=True)
    warped = _read(pixels, reading, np.array(BORDER, np.int32))
    return torch.from_numpy(warped.astype(np.uint8)).permute(2, 0, 1).contiguous()


def letterbox_mask(mask: Mask, size: int) -> Tensor:
    """A letterboxed mask (H, W), soft at its edge like the official ones: float32 (S, S)."""
    pixels = mask.astype(np.int32)[:, :, None] * 255
    reading = _reading(*mask.shape, size, cubic=False)
    warped = _read(pixels, reading, np.zeros(1, np.int32))
    return torch.from_numpy(warped[:, :, 0].astype(np.float32) / 255)


def restore(maps: Tensor, shape: tuple[int, int], outside: float) -> Tensor:
    """Maps (T, S, S) of letterboxed images at the image's own size (T, H, W), float32.

    `outside` is the value around the square; officially a probability of zero.
    """
    size = maps.shape[-1]
    rows, columns = _axes(matrices(*shape, size)[1], shape, cubic=True)
    moved = maps.float() - outside
    vertical = _matrix(rows, size, maps.device)
    horizontal = _matrix(columns, size, maps.device)
    return torch.einsum("hr,trc,wc->thw", vertical, moved, horizontal) + outside


def _axes(matrix: NDArray[np.float64], shape: tuple[int, int], cubic: bool) -> tuple[Axis, Axis]:
    """The axes of an output of `shape`, for the 2 x 3 map from input to output."""
    (a, b, move_x), (c, d, move_y) = matrix
    inverse = 1 / (a * d - b * c)
    scale_x, scale_y = d * inverse, a * inverse
    shift_x = -scale_x * move_x + b * inverse * move_y
    shift_y = c * inverse * move_x - scale_y * move_y
    unit = 1 << COORDINATE_BITS
    rows, columns = np.arange(shape[0]), np.arange(shape[1])
    y = np.rint((scale_y * rows + shift_y) * unit)  # in OpenCV's order: rounded once, and twice
    x = np.rint(scale_x * columns * unit) + np.rint(shift_x * unit)
    return _axis(y, cubic), _axis(x, cubic)


def _axis(fixed: NDArray[np.float64], cubic: bool) -> Axis:
    """The taps at positions in 1 / 1024 pixel."""
    half = 1 << (COORDINATE_BITS - FRACTION_BITS - 1)
    fine = (fixed.astype(np.int64) + half) >> (COORDINATE_BITS - FRACTION_BITS)
    start = fine >> FRACTION_BITS
    fraction = ((fine & ((1 << FRACTION_BITS) - 1)) / (1 << FRACTION_BITS)).astype(np.float32)
    taps = np.arange(-1, 3) if cubic else np.arange(2)
    weights = _cubic(fraction) if cubic else np.stack([1 - fraction, fraction], axis=1)
    return Axis(start[:, None] + taps, weights.astype(np.float32))


def _cubic(fraction: Weights) -> Weights:
    """Weights (n, 4) of the pixels around a position, a fraction past the second of them."""
    a = np.float32(CUBIC_SHARPNESS)
    x = fraction
    before, after = x + 1, 1 - x
    first = ((a * before - 5 * a) * before + 8 * a) * before - 4 * a
    second = ((a + 2) * x - (a + 3)) * x * x + 1
    third = ((a + 2) * after - (a + 3)) * after * after + 1
    return np.stack([first, second, third, 1 - first - second - third], axis=1)


def _matrix(axis: Axis, size: int, device: torch.device) -> Tensor:
    """The taps as a matrix (outputs, size); those outside of the input read zero."""
    inside = (axis.places >= 0) & (axis.places < size)
    matrix = np.zeros((len(axis.places), size), np.float32)
    rows = np.broadcast_to(np.arange(len(axis.places))[:, None], axis.places.shape)
    np.add.at(matrix, (rows[inside], axis.places[inside]), axis.weights[inside])
    return torch.from_numpy(matrix).to(device)


@lru_cache(maxsize=128)
def _reading(height: int, width: int, size: int, cubic: bool) -> Reading:
    """How the square of an image (H, W) is read: the same for all images of its size."""
    rows, columns = _axes(matrices(height, width, size)[0], (size, size), cubic)
    down = np.clip(rows.places + 1, 0, height + 1)  # outside reads the border
    across = np.clip(columns.places + 1, 0, width + 1)
    return Reading(down, across, *_integer_weights(rows.weights, columns.weights))


def _read(
    pixels: NDArray[np.int32], reading: Reading, border: NDArray[np.int32]
) -> NDArray[np.int32]:
    """8-bit pixels (H, W, C) read with integer weights, as OpenCV does, in 0..255."""
    down, across, table, row_kind, column_kind = reading
    taps = table.shape[2]
    padded = np.pad(pixels, ((1, 1), (1, 1), (0, 0)))
    for edge in (np.s_[:1], np.s_[-1:], np.s_[:, :1], np.s_[:, -1:]):
        padded[edge] = border
    total = np.zeros((len(down), len(across), pixels.shape[2]), np.int32)
    for i in range(taps):
        lines = padded.take(down[:, i], axis=0)
        for j in range(taps):
            weights = table[:, :, i, j].take(row_kind, axis=0).take(column_kind, axis=1)
            total += lines.take(across[:, j], axis=1) * weights[:, :, None]
    half = 1 << (WEIGHT_BITS - 1)
    return np.clip((total + half) >> WEIGHT_BITS, 0, 255)


def _integer_weights(
    rows: Weights, columns: Weights
) -> tuple[NDArray[np.int32], NDArray[np.int64], NDArray[np.int64]]:
    """Products of row and column weights as integers that add up to 2^15.

    Returns (kinds of rows, kinds of columns, taps, taps), and the kind of each row and column.
    """
    row_kinds, row_kind = np.unique(rows, axis=0, return_inverse=True)
    column_kinds, column_kind = np.unique(columns, axis=0, return_inverse=True)
    products = row_kinds[:, None, :, None] * column_kinds[None, :, None, :]
    table = np.rint(products * np.float32(1 << WEIGHT_BITS)).astype(np.int32)
    taps = rows.shape[1]
    later = table[:, :, taps // 2 :, taps // 2 :]
    excess = table.sum(axis=(2, 3)) - (1 << WEIGHT_BITS)
    for row, column in np.argwhere(excess):
        # The error of rounding is corrected at the largest or smallest of the last taps.
        block = later[row, column]
        place = block.argmax() if excess[row, column] < 0 else block.argmin()
        block[np.unravel_index(place, block.shape)] -= excess[row, column]
    return table, row_kind.ravel(), column_kind.ravel()
