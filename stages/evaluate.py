"""Compare masks with the ground truth: one row for each expression (one shard).

Masks of an object (its response map, label, pseudo mask) count once for each of its expressions, as
in the official evaluation of PRMS. An empty mask also predicts that there is no target. Masks of
the square that the model sees are scored too, where they are (`square`).
stages/score.py computes scores from the rows; docs/metrics.md defines them.
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd

from stages.config.section import EmptyResponse
from stages.metrics.boxes import find_boxes, score_boxes
from stages.metrics.failures import group_of_counts
from stages.metrics.generalized import outcome_of_counts
from stages.metrics.iou import changes_sign, foreground, iou, is_in_boxes, peak
from stages.runtime.command_line import main
from stages.runtime.errors import InputError
from stages.storage.masks import area, common_area, contains, decode, encode
from stages.storage.parquet import write_parquet
from stages.storage.tables import Samples, read_maps, read_samples, read_table

Scored = Literal[
    "whole_image",
    "center_box",
    "zero_shot",
    "stage1",
    "maps",
    "votes",
    "labels",
    "pseudo_masks",
    "assigned",
    "segmentor",
]

VERSION = 1

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Predicted:
    """What is scored for one expression."""

    mask: str  # run lengths
    point: tuple[int, int] | None = None  # row and column of the strongest response
    no_target: bool | None = None  # predicted; None: told by an empty mask
    square: str | None = None  # run lengths of the mask in the square that the model sees


KINDS = {
    "maps": "maps",
    "votes": "maps",
    "labels": "labels",
    "pseudo_masks": "masks",
    "assigned": "masks",
}  # else: predictions
Source = Callable[[Any, int, int], Predicted]  # of an expression's row, at height and width


def run(
    samples: Path,
    split: str,
    scored: Scored,
    results: Path,
    masks: Sequence[Path] = (),
    boxes: bool = False,
    side: int = 0,
    empty_response: EmptyResponse = "empty",
) -> None:
    """The rows of all that `masks` are of, or of the whole split, for what needs no masks.

    `boxes`: the boxes of each mask are scored too, which takes longer. `side`: the masks of the
    model's square of so many pixels a side are scored too; 0: not. `empty_response`: what a map
    that is negative everywhere predicts.
    """
    everything = read_samples(samples)
    scored_samples = everything.split(split)
    without = scored_samples.objects["mask"].isna()
    if without.any() and not without.all():
        log.warning(
            "%s: %d of %d objects have a mask; the others are not scored",
            *(split, (~without).sum(), len(without)),
        )
        scored_samples = scored_samples.of(scored_samples.objects[~without])
    if masks:
        covered = read_table(KINDS.get(scored, "predictions"), masks, ["object"])["object"]
        scored_samples = scored_samples.of(
            scored_samples.objects[scored_samples.objects["object"].isin(covered)]
        )
    if without.all():
        log.warning("%s has no masks: nothing of it is scored", split)
        table = pd.DataFrame({"expression": scored_samples.expressions.expression})
    else:
        others = _Others(everything, scored_samples.images.image)
        source = _source(scored, masks, empty_response, side)
        table = _score(scored_samples, source, others, boxes, side)
    write_parquet(results, table)
    log.info("%s on %s: %d expressions", scored, split, len(table))


def _source(
    scored: Scored, shards: Sequence[Path], empty_response: EmptyResponse, side: int
) -> Source:
    """Where the prediction of an expression comes from."""
    if scored == "whole_image":
        return _whole_image
    if scored == "center_box":
        return _center_box
    if scored in ("maps", "votes"):
        maps = read_maps(shards)
        return lambda row, height, width: _of_map(maps[row.object], height, width)
    if scored in ("labels", "pseudo_masks", "assigned"):
        column = "foreground" if scored == "labels" else "mask"
        of_object = read_table(KINDS[scored], shards).set_index("object")[column].to_dict()
        return lambda row, height, width: Predicted(of_object[row.object])
    predictions = read_table("predictions", shards).set_index("expression")

    def predicted(row: Any, height: int, width: int) -> Predicted:
        prediction = predictions.loc[row.expression]
        point = (int(prediction["row"]), int(prediction["column"]))
        if empty_response == "whole_image" and changes_sign(prediction["score"]):
            square = _whole_mask(side, side) if side else None
            return Predicted(_whole_mask(height, width), point, False, square)
        absent, square = bool(prediction["no_target"]), prediction["input_mask"]
        return Predicted(prediction["mask"], point, absent, square)

    return predicted


@cache
def _whole_mask(height: int, width: int) -> str:
    return encode(np.ones((height, width), dtype=bool))


def _whole_image(_row: Any, height: int, width: int) -> Predicted:
    return Predicted(_whole_mask(height, width), (height // 2, width // 2))


@cache
def _center_mask(height: int, width: int) -> str:
    mask = np.zeros((height, width), dtype=bool)
    mask[height // 4 : height - height // 4, width // 4 : width - width // 4] = True
    return encode(mask)


def _center_box(_row: Any, height: int, width: int) -> Predicted:
    """The middle half of the image in both directions."""
    return Predicted(_center_mask(height, width), (height // 2, width // 2))


def _of_map(stored: Any, height: int, width: int) -> Predicted:
    # Imported here because only this needs torch, whose import takes longer than most evaluations.
    import torch

    from stages.data import response_maps as response

    grid = torch.from_numpy(stored.grid)[None]
    full = response.full_map(grid, stored.input_size, (height, width))[0].numpy()
    return Predicted(encode(foreground(full)), peak(full))


class _Others:
    """The masks of the other annotated objects of some images, in whatever split they are."""

    def __init__(self, samples: Samples, images: pd.Series) -> None:
        objects = samples.objects[samples.objects.image.isin(images)]
        objects = objects[objects["mask"].notna()]
        self.of_image: dict[int, list[tuple[int, str]]] = {}
        for row in objects[["image", "object", "mask"]].itertuples(index=False):
            self.of_image.setdefault(row.image, []).append((row.object, row.mask))

    def rival_pixels(self, mask: str | None, row: Any) -> int:
        """The most pixels of any but the target of a row in the prediction, outside the target."""
        if mask is None:
            return 0
        size = (row.height, row.width)
        counts = [
            common_area([other, mask], *size) - common_area([other, mask, row.mask], *size)
            for name, other in self.of_image[row.image]
            if name != row.object
        ]
        return max(counts, default=0)


def _score(
    scored_samples: Samples, source: Source, others: _Others, with_boxes: bool, side: int
) -> pd.DataFrame:
    """A row for each expression; those beginning with `generalized` go by gRefCOCO's rules.

    Those beginning with `square` are of the masks of `side` x `side` pixels, if there is a side.
    """
    rows = []
    expressions = scored_samples.expressions.merge(scored_samples.objects, on="object").merge(
        scored_samples.images, on="image"
    )
    for row in expressions.itertuples():
        size = (row.height, row.width)
        predicted = source(row, *size)
        pixels, target = area(predicted.mask, *size), area(row.mask, *size)
        no_target = predicted.no_target  # as predicted
        if no_target is None:
            no_target = not pixels
        counts = _counts(predicted.mask, row.mask, size, row.no_target, no_target)
        if no_target:  # then no pixel counts
            pixels = 0
        rival = partial(others.rival_pixels, predicted.mask if pixels else None, row)
        scored = {
            "expression": row.expression,
            "object": row.object,
            "image": row.image,
            "kind": row.kind,
            "words": len(row.text.split()),
            "area": target / (row.height * row.width),
            "no_target": row.no_target,
            "predicted_no_target": no_target,
            "group": group_of_counts(counts["intersection"], pixels, target, rival),
            **counts,
        }
        if side:
            if predicted.square is None:
                raise InputError(
                    f"expression {row.expression}: no mask of {side} x {side} pixels; needed:"
                    " predictions with at_input_size"
                )
            truth = _square_mask(row.mask, size, side)
            square = _counts(predicted.square, truth, (side, side), row.no_target, no_target)
            scored |= {"square_side": side} | {f"square_{k}": v for k, v in square.items()}
        if predicted.point is not None and not row.no_target:
            boxes = [_corners(box) for box in row.boxes]
            scored["peak_in_box"] = is_in_boxes(predicted.point, boxes)
            scored["peak_in_mask"] = contains(row.mask, predicted.point, *size)
            if with_boxes and boxes:
                predicted_boxes = find_boxes(decode(predicted.mask, *size))
                scored["box_iou"], scored["box_accuracy"] = score_boxes(
                    predicted_boxes, predicted.point, boxes[0]
                )
        rows.append(scored)
    return pd.DataFrame(rows)


def _counts(
    mask: str, truth: str, size: tuple[int, int], absent: bool, no_target: bool
) -> dict[str, Any]:
    """Pixels and IoU of a mask, usually and by gRefCOCO's rules.

    `absent`: there is no target. `no_target`: that is predicted, so that no pixel counts.
    """
    common = common_area([mask, truth], *size)
    pixels, target = area(mask, *size), area(truth, *size)
    generalized = outcome_of_counts(common, pixels + target - common, absent, no_target)
    if no_target:
        common = pixels = 0
    union = pixels + target - common
    return {
        "intersection": common,
        "union": union,
        "iou": float(iou(common, union)),
        "generalized_intersection": generalized.intersection,
        "generalized_union": generalized.union,
        "generalized_iou": generalized.iou,
    }


def _square_mask(mask: str, size: tuple[int, int], side: int) -> str:
    """The ground truth as training has it, in the square that the model sees."""
    from stages.data.images import square_mask  # needs torch, as above

    return encode(square_mask(decode(mask, *size), side).numpy())


def _corners(box: Any) -> list[int]:
    """Corners of x, y, width, height, cut to whole pixels as the official evaluation does."""
    x, y, width, height = (int(value) for value in box)
    return [x, y, x + width, y + height]


if __name__ == "__main__":
    main(run)
