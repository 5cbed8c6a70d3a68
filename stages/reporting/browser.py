"""The examples of a report that a reader searches, sorts and opens, as layers over their images.

A page holds one JPEG for each image. Masks, outlines and response maps are transparent PNGs of one
or two kilobytes on top of it: a hundred examples with all their stages are a few megabytes.
"""

import io
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from stages.data.images import read_image
from stages.reporting import overlay
from stages.reporting.examples import GROUND_TRUTH, Examples, Stage
from stages.storage.masks import Mask

SIDE = 320  # pixels of the longer side of an image; smaller ones keep their size
RESPONSE_SIDE = 96  # of a response map, which has few cells
LEVELS = 64  # colors of a response map
COLORS = {GROUND_TRUTH: overlay.GROUND_TRUTH}  # of a stage's mask; the others are predictions
OPACITY = 150  # of 255, of masks


@dataclass(frozen=True)
class Browser:
    """What the page embeds."""

    images: list[str]  # data URLs
    examples: list[dict[str, Any]]
    total: int  # expressions of the split, of which the examples are some
    kinds: list[str] = field(default_factory=list)
    groups: list[str] = field(default_factory=list)


def browse(examples: Examples, count: int) -> Browser:
    """At most `count` expressions, spread evenly over the order of their IoU.

    Without scores: spread over the order of the data set.
    """
    order = examples.predicted.index
    if examples.scored is not None:
        order = examples.scored.sort_values("iou", kind="stable").index
    picks = np.unique(np.linspace(0, len(order) - 1, min(count, len(order))).round().astype(int))
    numbers: dict[str, int] = {}
    images: list[str] = []
    chosen = []
    for expression in map(int, order[picks]):
        file = examples.image_of(expression)
        image = read_image(file)
        size = overlay.size_within(image, SIDE)
        if str(file) not in numbers:
            numbers[str(file)] = len(images)
            small = image.convert("RGB").resize(size, Image.Resampling.BICUBIC)
            images.append(overlay.data_url(small))
        stages = examples.stages(expression, image)
        ious = [s.iou for s in stages if s.title in examples.segmentors and s.iou is not None]
        chosen.append(
            {
                "text": examples.texts[expression],
                "image": numbers[str(file)],
                "size": size,
                "stages": [_layers(stage, size) for stage in stages],
                "shown": [stage.title for stage in stages].index(examples.title),
                "spread": round(max(ious) - min(ious), 4) if ious else 0,
                **_scores(examples, expression),
            }
        )
    return Browser(images, chosen, len(order), _values(chosen, "kind"), _values(chosen, "group"))


def _scores(examples: Examples, expression: int) -> dict[str, Any]:
    if examples.scored is None:
        words = len(str(examples.texts[expression]).split())
        return {"iou": None, "kind": None, "words": words, "area": None, "group": None}
    row = examples.scored.loc[expression]
    return {
        "iou": round(float(row["iou"]), 4),
        "kind": row["kind"] if isinstance(row["kind"], str) else None,
        "words": int(row["words"]),
        "area": None if row["no_target"] else round(float(row["area"]), 4),
        "group": str(row["group"]),
    }


def _values(chosen: list[dict[str, Any]], key: str) -> list[str]:
    return sorted({row[key] for row in chosen if row[key] is not None})


def _layers(stage: Stage, size: tuple[int, int]) -> dict[str, Any]:
    """The title of a stage, its note, and what lies over the image."""
    layers = []
    if stage.response is not None:
        layers.append(_response(stage.response))
    if stage.ignore is not None:
        layers.append(_colored(stage.ignore, size, overlay.IGNORED, OPACITY))
    if stage.mask is not None:
        color = COLORS.get(stage.title, overlay.PREDICTION)
        layers.append(_colored(stage.mask, size, color, OPACITY))
    drawn: dict[str, Any] = {"title": stage.title, "note": stage.note, "layers": layers}
    if stage.title == GROUND_TRUTH and stage.mask is not None:
        edge = overlay.outline(overlay.resized(stage.mask, size), width=2)
        drawn["outline"] = _colored(edge, size, overlay.OUTLINE, 255)
    return drawn


def _colored(mask: Mask, size: tuple[int, int], color: overlay.Color, opacity: int) -> str:
    """A mask in a color on nothing."""
    small = overlay.resized(mask, size)
    return _png(small.astype(np.uint8), [(0, 0, 0), color], bytes([0, opacity]))


def _response(response: NDArray[np.float32]) -> str:
    """A response map, the stronger the brighter and the less transparent; nothing where it is 0."""
    image = Image.fromarray(np.maximum(response, 0))
    small = np.asarray(
        image.resize(overlay.size_within(image, RESPONSE_SIDE), Image.Resampling.BILINEAR)
    )
    strength = small / max(float(small.max()), 1e-9)
    levels = (strength * (LEVELS - 1)).round().astype(np.uint8)
    steps = np.linspace(0, 1, LEVELS)
    colors = [tuple(map(int, color)) for color in overlay.color_responses(steps)]
    opacity = (255 * overlay.response_opacity(steps)).astype(np.uint8)
    return _png(levels, colors, opacity.tobytes())


def _png(indices: NDArray[np.uint8], colors: list[tuple[int, ...]], opacity: bytes) -> str:
    """An image (H, W) of numbered colors, each with its opacity, as a data URL."""
    image = Image.fromarray(indices, "P")
    image.putpalette([value for color in colors for value in color])
    content = io.BytesIO()
    image.save(content, "png", transparency=opacity, optimize=True)
    return overlay.content_url(content.getvalue(), "png")
