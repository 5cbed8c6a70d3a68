"""Masks as polygons that COCO's own rule draws back to the same pixels.

Corners are corners of pixels: x = 0 is the left edge of the image, x = width its right edge. A hole
is joined to its outline by a line there and back, which encloses no pixel. Programs that also draw
the border of a polygon (OpenCV, Pillow) draw up to a pixel more at its right and its lower edge.

Rings are (N, 2): x and y of corners, the mask on the right of the way from each to the next.
"""

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import label

from stages.storage.masks import Mask

Ring = NDArray[np.int64]


def polygons(mask: Mask) -> list[Ring]:
    """One polygon for each connected part of a mask (H, W), its holes cut out."""
    outlines: dict[int, Ring] = {}
    holes: dict[int, list[Ring]] = {}
    for part, ring in _rings(mask):
        if _is_outline(ring):
            outlines[part] = ring
        else:
            holes.setdefault(part, []).append(ring)
    return [joined([outlines[part], *holes.get(part, [])]) for part in sorted(outlines)]


def joined(rings: list[Ring]) -> Ring:
    """Rings as one polygon: each is joined at the corners where it is nearest to those before."""
    whole = rings[0]
    for ring in rings[1:]:
        distances = np.abs(whole[:, None] - ring[None]).sum(axis=2)
        at, first = np.unravel_index(int(distances.argmin()), distances.shape)
        turned = np.roll(ring, -int(first), axis=0)
        whole = np.concatenate([whole[: at + 1], turned, turned[:1], whole[at:]])
    return whole


def _rings(mask: Mask) -> list[tuple[int, Ring]]:
    """The borders of all parts and holes, each with the number of its part.

    Pixels that touch at a corner only are of two parts.
    """
    parts = label(mask)[0]
    stride = mask.shape[1] + 1
    edges = _edges(mask, stride)
    rings = []
    while edges:
        start = next(iter(edges))
        place, (end, pixel) = start, edges[start][0]
        first_pixel, corners = pixel, []
        while True:
            corners.append(place)
            leaving = edges[place]
            leaving.remove((end, pixel))
            if not leaving:
                del edges[place]
            if end == start:
                break
            place = end
            # Where four borders meet, the way goes on along the same pixel.
            end, pixel = next((e for e in edges[place] if e[1] == pixel), edges[place][0])
        row, column = divmod(first_pixel, mask.shape[1])
        rings.append((int(parts[row, column]), _without_straight_corners(corners, stride)))
    return rings


def _edges(mask: Mask, stride: int) -> dict[int, list[tuple[int, int]]]:
    """The border between mask and outside, a pixel's side at a time.

    From each corner (y * stride + x): the corners that sides lead to, and their pixels in the mask.
    """
    padded = np.pad(mask, 1)
    inside = padded[1:-1, 1:-1]
    sides = {  # where the neighbor is, and from and to which corner of the pixel the side goes
        (0, 1): ((0, 0), (0, 1)),
        (1, 2): ((0, 1), (1, 1)),
        (2, 1): ((1, 1), (1, 0)),
        (1, 0): ((1, 0), (0, 0)),
    }
    height, width = mask.shape
    edges: dict[int, list[tuple[int, int]]] = {}
    for (down, right), (begin, end) in sides.items():
        neighbor = padded[down : down + height, right : right + width]
        rows, columns = np.nonzero(inside & ~neighbor)
        starts = (rows + begin[0]) * stride + columns + begin[1]
        ends = (rows + end[0]) * stride + columns + end[1]
        pixels = rows * width + columns
        for start, stop, pixel in zip(starts.tolist(), ends.tolist(), pixels.tolist(), strict=True):
            edges.setdefault(start, []).append((stop, pixel))
    return edges


def _without_straight_corners(corners: list[int], stride: int) -> Ring:
    places = np.array(corners)
    ring = np.stack([places % stride, places // stride], axis=1)
    before, after = ring - np.roll(ring, 1, axis=0), np.roll(ring, -1, axis=0) - ring
    turned: Ring = ring[(before != after).any(axis=1)]
    return turned


def _is_outline(ring: Ring) -> bool:
    """Whether a ring is around pixels, and not around a hole."""
    x, y = ring.T
    return int((x * np.roll(y, -1) - y * np.roll(x, -1)).sum()) > 0
