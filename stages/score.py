"""The scores of a split, from the rows of all its expressions (the shards of evaluate).

A split in which expressions without a target are is scored by gRefCOCO's rules too, as
`generalized`. Masks of the square that the model sees are scored alike, as `square`.
docs/metrics.md defines every number.
"""

import logging
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd

from stages.metrics.bootstrap import mean_interval
from stages.metrics.failures import shares
from stages.metrics.generalized import Outcome, summarize_generalized
from stages.metrics.iou import summarize
from stages.runtime.command_line import main
from stages.runtime.errors import InputError
from stages.storage.files import write_json
from stages.storage.parquet import read_parquet, write_parquet
from stages.storage.tables import read_samples

VERSION = 1

log = logging.getLogger(__name__)


def run(
    samples: Path,
    dataset: str,
    split: str,
    scored: str,
    rows: list[Path],
    metrics: Path,
    results: Path,
) -> None:
    """`rows` are the shards, in their order; `results` is all of them in one table."""
    shards = [shard for shard in map(read_parquet, rows) if len(shard)]
    if not shards:
        raise InputError(f"{rows[0]}: no rows, nor in the other shards; needed: those of {split}")
    table = pd.concat(shards).sort_values("expression", ignore_index=True)
    split_samples = read_samples(samples).split(split)
    masked = split_samples.objects[split_samples.objects["mask"].notna()]
    expected = len((split_samples.of(masked) if len(masked) else split_samples).expressions)
    if len(table) != expected or table.expression.duplicated().any():
        covered = f"{table.expression.nunique()} different of {len(table)} rows"
        raise InputError(f"{rows[0]} and the other shards: {covered}; needed all {expected}, once")
    about = {"dataset": dataset, "scored": scored, "split": split}
    write_parquet(results, table)
    if "iou" not in table:
        write_json(metrics, {**about, "scores": {}, "groups": {}})
        return
    scores = _scores(table)
    if "square_side" in table:
        scores["square"] = {"side": int(table.square_side.iloc[0]), **_scores(_of_square(table))}
    write_json(metrics, {**about, "scores": scores, "groups": shares(table["group"].tolist())})
    log.info("%s on %s: mIoU %.1f %%", scored, split, 100 * scores["mean_iou"])


def _of_square(table: pd.DataFrame) -> pd.DataFrame:
    """The rows of masks of the model's square, as those of masks of the image's size."""
    square = table.filter(regex="^square_").rename(columns=lambda name: name[len("square_") :])
    return table[["image", "no_target", "predicted_no_target"]].join(square)


def _scores(table: pd.DataFrame) -> dict[str, Any]:
    scores = _summary(table)
    if table.no_target.any():
        scores["generalized"] = _flat(asdict(summarize_generalized(_outcomes(table))))
    return scores


def _outcomes(table: pd.DataFrame) -> list[Outcome]:
    return [
        Outcome(
            row.generalized_intersection,
            row.generalized_union,
            row.generalized_iou,
            row.no_target,
            row.predicted_no_target,
        )
        for row in table.itertuples()
    ]


def _summary(table: pd.DataFrame) -> dict[str, Any]:
    # Only expressions with a target have a peak to be scored.
    peaks = table.dropna(subset=["peak_in_box"]) if "peak_in_box" in table else None
    scores = summarize(
        table["intersection"],
        table["union"],
        None if peaks is None else peaks["peak_in_box"],
        None if peaks is None else peaks["peak_in_mask"],
    )
    flat = _flat(asdict(scores))
    flat["mean_iou_low"], flat["mean_iou_high"] = mean_interval(table["iou"], table["image"])
    for column in ("box_iou", "box_accuracy"):
        if column in table:
            flat[column] = float(table[column].mean())
    return flat


def _flat(scores: dict[str, Any]) -> dict[str, Any]:
    precision = scores.pop("precision") or {}
    return scores | {f"precision_{round(100 * at)}": value for at, value in precision.items()}


if __name__ == "__main__":
    main(run)
