"""Compare anything that has masks with the truth: one row for each expression (one shard).

What belongs to an object (its response map, label, pseudo mask) counts once for each of its
expressions, as in the official evaluation of PRMS. A prediction that says that there is no target,
or is empty, denies it. stages/score.py makes scores of the rows; docs/metrics.md defines them.
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
from stages.metrics.iou import foreground, hits_box, hits_mask, intersection_union, iou, peak
from stages.runtime.command_line import main
from stages.runtime.errors import InputError
from stages.storage.files import replacing
from stages.storage.masks import Mask, decode
from stages.storage.tables import Samples, read_maps, read_samples, read_table

What = Literal[
    "whole_image",
    "center_box",
    "zero_shot",
    "stage1",
    "prms",
    "labels",
    "pseudo",
    "segmentor",
]

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Predicted:
    """What is scored for one expression."""

    mask: Mask  # (H, W)
    point: tuple[int, int] | None = None  # row and column of the strongest response
    no_target: bool | None = None  # whether there is said to be none; None: if the mask is empty


KINDS = {"prms": "maps", "labels": "labels", "pseudo": "masks"}  # of tables; else: predictions
Source = Callable[[Any, int, int], Predicted]  # of an expression's row, at height and width


def run(samples: Path, split: str, what: What, results: Path, masks: Sequence[Path] = ()) -> None:
    """The rows of all that `masks` are of, or of the whole split, for what needs no masks."""
    everything = read_samples(samples)
    part = everything.split(split)
    without = part.objects["mask"].isna()
    if without.any() and not without.all():
        missing = f"{without.sum()} of {len(without)} objects of {split} have no mask"
        raise InputError(f"{samples}: {missing}; needed masks of all of them, or of none")
    if masks:
        covered = read_table(KINDS.get(what, "predictions"), masks, ["object"])["object"]
        part = part.of(part.objects[part.objects["object"].isin(covered)])
    if without.all():
        log.warning("%s has no masks: nothing of it is scored", split)
        table = pd.DataFrame({"expression": part.expressions.expression})
    else:
        others = _Others(everything, part.images.image)
        table = _score(part, _source(what, masks), others, with_boxes=what == "stage1")
    with replacing(results) as temporary:
        pq.write_table(pa.Table.from_pandas(table, preserve_index=False), temporary)
    log.info("%s on %s: %d expressions", what, split, len(table))


def _source(what: What, shards: Sequence[Path]) -> Source:
    """Where the prediction of an expression comes from."""
    if what == "whole_image":
        return lambda row, height, width: Predicted(
            np.ones((height, width), dtype=bool), (height // 2, width // 2)
        )
    if what == "center_box":
        return _center_box
    if what == "prms":
        maps = read_maps(shards)
        return lambda row, height, width: _of_map(maps[row.object], height, width)
    if what in ("labels", "pseudo"):
        column = "foreground" if what == "labels" else "mask"
        of_object = read_table(KINDS[what], shards).set_index("object")[column].to_dict()
        return lambda row, height, width: Predicted(decode(of_object[row.object], height, width))
    predictions = read_table("predictions", shards).set_index("expression")

    def predicted(row: Any, height: int, width: int) -> Predicted:
        found = predictions.loc[row.expression]
        mask = decode(found["mask"], height, width)
        point = (int(found["row"]), int(found["column"]))
        return Predicted(mask, point, bool(found["no_target"]))

    return predicted


def _center_box(_row: Any, height: int, width: int) -> Predicted:
    """The middle half of the image in both directions."""
    mask = np.zeros((height, width), dtype=bool)
    mask[height // 4 : height - height // 4, width // 4 : width - width // 4] = True
    return Predicted(mask, (height // 2, width // 2))


def _of_map(found: Any, height: int, width: int) -> Predicted:
    # Imported here because only this needs torch, whose import takes longer than most evaluations.
    import torch

    from stages.data import response_maps as response

    grid = torch.from_numpy(found.grid)[None]
    full = response.full_map(grid, found.input_size, (height, width))[0].numpy()
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
        truth = decode(row.mask, row.height, row.width)
        predicted = source(row, row.height, row.width)
        said = predicted.no_target
        denied = not predicted.mask.any() if said is None else said
        mask = predicted.mask & (not denied)
        rival = partial(_rival, mask, truth, others, row)
        intersection, union = intersection_union(mask, truth)
        scored = {
            "expression": row.expression,
            "object": row.object,
            "image": row.image,
            "kind": row.kind,
            "words": len(row.text.split()),
            "area": float(truth.mean()),
            "intersection": intersection,
            "union": union,
            "iou": float(iou(intersection, union)),
            "no_target": row.no_target,
            "predicted_no_target": denied,
            "group": group(mask, truth, rival),
            **_generalized(outcome(predicted.mask, truth, row.no_target, denied)),
        }
        if predicted.point is not None and not row.no_target:
            boxes = [_corners(box) for box in row.boxes]
            scored["hit"] = hits_box(predicted.point, boxes)
            scored["hit_mask"] = hits_mask(predicted.point, truth)
            if with_boxes and boxes:
                found = find_boxes(predicted.mask)
                scored["box_iou"], scored["box_hit"] = score_boxes(found, predicted.point, boxes[0])
        rows.append(scored)
    return pd.DataFrame(rows)


def _generalized(found: Outcome) -> dict[str, float]:
    return {
        "generalized_intersection": found.intersection,
        "generalized_union": found.union,
        "generalized_iou": found.iou,
    }


def _rival(mask: Mask, truth: Mask, others: _Others, row: Any) -> int:
    return rival_pixels(mask, truth, others.of(row))


def _corners(box: Any) -> list[int]:
    """Corners of x, y, width, height, cut to whole pixels as the official evaluation does."""
    x, y, width, height = (int(value) for value in box)
    return [x, y, x + width, y + height]


if __name__ == "__main__":
    main(run)
