"""Compare masks with the ground truth: one row for each expression (one shard).

Masks of an object (its response map, label, pseudo mask) count once for each of its expressions, as
in the official evaluation of PRMS. An empty mask also predicts that there is no target.
stages/score.py computes scores from the rows; docs/metrics.md defines them.
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from stages.metrics.boxes import find_boxes, score_boxes
from stages.metrics.failures import group, rival_pixels
from stages.metrics.generalized import Outcome, outcome
from stages.metrics.iou import foreground, intersection_union, iou, is_in_boxes, is_in_mask, peak
from stages.runtime.command_line import main
from stages.runtime.errors import InputError
from stages.storage.files import replacing
from stages.storage.masks import Mask, decode
from stages.storage.tables import Samples, read_maps, read_samples, read_table

Scored = Literal[
    "whole_image",
    "center_box",
    "zero_shot",
    "stage1",
    "maps",
    "labels",
    "pseudo_masks",
    "segmentor",
]

VERSION = 1

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Predicted:
    """What is scored for one expression."""

    mask: Mask  # (H, W)
    point: tuple[int, int] | None = None  # row and column of the strongest response
    no_target: bool | None = None  # predicted; None: told by an empty mask


KINDS = {
    "maps": "maps",
    "labels": "labels",
    "pseudo_masks": "masks",
}  # else: predictions
Source = Callable[[Any, int, int], Predicted]  # of an expression's row, at height and width


def run(
    samples: Path,
    split: str,
    scored: Scored,
    results: Path,
    masks: Sequence[Path] = (),
    boxes: bool = False,
) -> None:
    """The rows of all that `masks` are of, or of the whole split, for what needs no masks.

    `boxes`: the boxes of each mask are scored too, which takes longer.
    """
    everything = read_samples(samples)
    part = everything.split(split)
    without = part.objects["mask"].isna()
    if without.any() and not without.all():
        missing = f"{without.sum()} of {len(without)} objects of {split} have no mask"
        raise InputError(f"{samples}: {missing}; needed masks of all of them, or of none")
    if masks:
        covered = read_table(KINDS.get(scored, "predictions"), masks, ["object"])["object"]
        part = part.of(part.objects[part.objects["object"].isin(covered)])
    if without.all():
        log.warning("%s has no masks: nothing of it is scored", split)
        table = pd.DataFrame({"expression": part.expressions.expression})
    else:
        others = _Others(everything, part.images.image)
        table = _score(part, _source(scored, masks), others, boxes)
    with replacing(results) as temporary:
        pq.write_table(pa.Table.from_pandas(table, preserve_index=False), temporary)
    log.info("%s on %s: %d expressions", scored, split, len(table))


def _source(scored: Scored, shards: Sequence[Path]) -> Source:
    """Where the prediction of an expression comes from."""
    if scored == "whole_image":
        return lambda row, height, width: Predicted(
            np.ones((height, width), dtype=bool), (height // 2, width // 2)
        )
    if scored == "center_box":
        return _center_box
    if scored == "maps":
        maps = read_maps(shards)
        return lambda row, height, width: _of_map(maps[row.object], height, width)
    if scored in ("labels", "pseudo_masks"):
        column = "foreground" if scored == "labels" else "mask"
        of_object = read_table(KINDS[scored], shards).set_index("object")[column].to_dict()
        return lambda row, height, width: Predicted(decode(of_object[row.object], height, width))
    predictions = read_table("predictions", shards).set_index("expression")

    def predicted(row: Any, height: int, width: int) -> Predicted:
        prediction = predictions.loc[row.expression]
        mask = decode(prediction["mask"], height, width)
        point = (int(prediction["row"]), int(prediction["column"]))
        return Predicted(mask, point, bool(prediction["no_target"]))

    return predicted


def _center_box(_row: Any, height: int, width: int) -> Predicted:
    """The middle half of the image in both directions."""
    mask = np.zeros((height, width), dtype=bool)
    mask[height // 4 : height - height // 4, width // 4 : width - width // 4] = True
    return Predicted(mask, (height // 2, width // 2))


def _of_map(stored: Any, height: int, width: int) -> Predicted:
    # Imported here because only this needs torch, whose import takes longer than most evaluations.
    import torch

    from stages.data import response_maps as response

    grid = torch.from_numpy(stored.grid)[None]
    full = response.full_map(grid, stored.input_size, (height, width))[0].numpy()
    return Predicted(foreground(full), peak(full))


class _Others:
    """The masks of the other annotated objects of some images, in whatever split they are."""

    def __init__(self, samples: Samples, images: pd.Series) -> None:
        objects = samples.objects[samples.objects.image.isin(images)]
        objects = objects[objects["mask"].notna()]
        self.of_image = {image: rows for image, rows in objects.groupby("image")}
        self.masks = lru_cache(maxsize=8)(self._masks)

    def of(self, row: Any) -> NDArray[np.bool_]:
        """All but the target of an expression's row: (N, H, W)."""
        names, masks = self.masks(row.image, row.height, row.width)
        return masks[names != row.object]

    def _masks(
        self, image: int, height: int, width: int
    ) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        rows = self.of_image[image]
        masks = np.stack([decode(counts, height, width) for counts in rows["mask"]])
        return rows["object"].to_numpy(), masks


def _score(part: Samples, source: Source, others: _Others, with_boxes: bool) -> pd.DataFrame:
    """A row for each expression; those beginning with `generalized` go by gRefCOCO's rules."""
    rows = []
    expressions = part.expressions.merge(part.objects, on="object").merge(part.images, on="image")
    for row in expressions.itertuples():
        ground_truth = decode(row.mask, row.height, row.width)
        predicted = source(row, row.height, row.width)
        no_target = predicted.no_target  # as predicted
        if no_target is None:
            no_target = not predicted.mask.any()
        mask = predicted.mask & (not no_target)
        rival = partial(_rival, mask, ground_truth, others, row)
        intersection, union = intersection_union(mask, ground_truth)
        scored = {
            "expression": row.expression,
            "object": row.object,
            "image": row.image,
            "kind": row.kind,
            "words": len(row.text.split()),
            "area": float(ground_truth.mean()),
            "intersection": intersection,
            "union": union,
            "iou": float(iou(intersection, union)),
            "no_target": row.no_target,
            "predicted_no_target": no_target,
            "group": group(mask, ground_truth, rival),
            **_generalized(outcome(predicted.mask, ground_truth, row.no_target, no_target)),
        }
        if predicted.point is not None and not row.no_target:
            boxes = [_corners(box) for box in row.boxes]
            scored["peak_in_box"] = is_in_boxes(predicted.point, boxes)
            scored["peak_in_mask"] = is_in_mask(predicted.point, ground_truth)
            if with_boxes and boxes:
                predicted_boxes = find_boxes(predicted.mask)
                scored["box_iou"], scored["box_accuracy"] = score_boxes(
                    predicted_boxes, predicted.point, boxes[0]
                )
        rows.append(scored)
    return pd.DataFrame(rows)


def _generalized(result: Outcome) -> dict[str, float]:
    return {
        "generalized_intersection": result.intersection,
        "generalized_union": result.union,
        "generalized_iou": result.iou,
    }


def _rival(mask: Mask, ground_truth: Mask, others: _Others, row: Any) -> int:
    return rival_pixels(mask, ground_truth, others.of(row))


def _corners(box: Any) -> list[int]:
    """Corners of x, y, width, height, cut to whole pixels as the official evaluation does."""
    x, y, width, height = (int(value) for value in box)
    return [x, y, x + width, y + height]


if __name__ == "__main__":
    main(run)
