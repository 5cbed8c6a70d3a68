"""Score anything that has masks against the truth: metrics, and one row for each expression.

What belongs to an object (its response map, label, pseudo mask) counts once for each of its
expressions, as in the official evaluation of PRMS. A split in which expressions without a target
are is scored by gRefCOCO's rules too, as `generalized`; a prediction that says so, or is empty,
denies the target. docs/metrics.md defines every number.
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from stages.core.bootstrap import mean_interval
from stages.core.boxes import find_boxes, score_boxes
from stages.core.command import main
from stages.core.errors import InputError
from stages.core.failures import group, rival_pixels, shares
from stages.core.files import replacing, write_json
from stages.core.generalized import Outcome, outcome, summarize_generalized
from stages.core.masks import Mask, decode
from stages.core.metrics import (
    foreground,
    hits_box,
    hits_mask,
    intersection_union,
    iou,
    peak,
    summarize,
)
from stages.core.tables import Samples, read_maps, read_samples, read_table

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


Source = Callable[[Any, int, int], Predicted]  # of an expression's row, at height and width


def run(
    samples: Path,
    split: str,
    what: What,
    metrics: Path,
    results: Path,
    name: str,
    masks: Sequence[Path] = (),
) -> None:
    """`masks` are the shards of what is scored; the baselines need none."""
    everything = read_samples(samples)
    part = everything.split(split)
    about = {"experiment": name, "dataset": samples.parent.name, "what": what, "split": split}
    without = part.objects["mask"].isna()
    if without.all():
        log.warning("%s has no masks: nothing of it is scored", split)
        write_json(metrics, {**about, "scores": {}, "groups": {}})
        with replacing(results) as temporary:
            pd.DataFrame({"expression": part.expressions.expression}).to_parquet(temporary)
        return
    if without.any():
        missing = f"{without.sum()} of {len(without)} objects of {split} have no mask"
        raise InputError(f"{samples}: {missing}; needed masks of all of them, or of none")
    others = _Others(everything, part.images.image)
    table, outcomes = _score(part, _source(what, masks), others, with_boxes=what == "stage1")
    with replacing(results) as temporary:
        pq.write_table(pa.Table.from_pandas(table, preserve_index=False), temporary)
    scores = _summary(table)
    if part.objects.no_target.any():
        scores["generalized"] = _flat(asdict(summarize_generalized(outcomes)))
    write_json(metrics, {**about, "scores": scores, "groups": shares(table["group"].tolist())})
    log.info("%s on %s: mIoU %.1f %%", what, split, 100 * scores["mean_iou"])


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
        kind, column = ("labels", "foreground") if what == "labels" else ("masks", "mask")
        of_object = read_table(kind, shards).set_index("object")[column].to_dict()
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

    from stages.core import response

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


def _score(
    part: Samples, source: Source, others: _Others, with_boxes: bool
) -> tuple[pd.DataFrame, list[Outcome]]:
    """A row for each expression of a split, and what it is by gRefCOCO's rules."""
    rows, outcomes = [], []
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
        }
        outcomes.append(outcome(predicted.mask, truth, row.no_target, denied))
        if predicted.point is not None and not row.no_target:
            boxes = [_corners(box) for box in row.boxes]
            scored["hit"] = hits_box(predicted.point, boxes)
            scored["hit_mask"] = hits_mask(predicted.point, truth)
            if with_boxes and boxes:
                found = find_boxes(predicted.mask)
                scored["box_iou"], scored["box_hit"] = score_boxes(found, predicted.point, boxes[0])
        rows.append(scored)
    return pd.DataFrame(rows), outcomes


def _rival(mask: Mask, truth: Mask, others: _Others, row: Any) -> int:
    return rival_pixels(mask, truth, others.of(row))


def _corners(box: Any) -> list[int]:
    """Corners of x, y, width, height, cut to whole pixels as the official evaluation does."""
    x, y, width, height = (int(value) for value in box)
    return [x, y, x + width, y + height]


def _summary(table: pd.DataFrame) -> dict[str, Any]:
    hits = table.dropna(subset=["hit"]) if "hit" in table else None  # those that have a target
    scores = summarize(
        table["intersection"],
        table["union"],
        None if hits is None else hits["hit"],
        None if hits is None else hits["hit_mask"],
    )
    flat = _flat(asdict(scores))
    flat["mean_iou_low"], flat["mean_iou_high"] = mean_interval(table["iou"], table["image"])
    for column in ("box_iou", "box_hit"):
        if column in table:
            flat[column] = float(table[column].mean())
    return flat


def _flat(scores: dict[str, Any]) -> dict[str, Any]:
    precision = scores.pop("precision") or {}
    return scores | {f"precision_{round(100 * at)}": value for at, value in precision.items()}


if __name__ == "__main__":
    main(run)
