"""What evaluation found, read for the pages: metrics, and the expressions behind them."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from stages.reporting.table import Label
from stages.runtime.errors import InputError
from stages.storage.files import read_json
from stages.storage.parquet import open_parquet, read_parquet

COLUMNS = ["expression", "image", "kind", "words", "area", "iou", "no_target", "group"]


@dataclass(frozen=True)
class Scored:
    """One thing that was scored on one split."""

    about: dict[str, Any]  # the metrics file
    expressions: pd.DataFrame | None  # None where nothing has masks

    @property
    def split(self) -> str:
        return str(self.about["split"])

    @property
    def kind(self) -> str:
        """What was scored: a baseline, a stage, maps or masks."""
        return str(self.about["scored"])


def read_scored(
    metrics: Sequence[Path], results: Sequence[Path], experiments: Sequence[str]
) -> list[Scored]:
    """All that was scored: the metrics file, the expressions and the experiment of each."""
    if not len(metrics) == len(results) == len(experiments):
        counts = f"{len(metrics)} metrics, {len(results)} results, {len(experiments)} rows"
        raise InputError(f"{counts}; needed as many of each")
    return [
        Scored({"experiment": experiment, **read_json(scores)}, _expressions(expressions))
        for scores, expressions, experiment in zip(metrics, results, experiments, strict=True)
    ]


def _expressions(path: Path) -> pd.DataFrame | None:
    with open_parquet(path) as file:
        names = file.schema_arrow.names
    if names == ["expression"]:
        return None
    if not set(COLUMNS) <= set(names):
        raise InputError(
            f"{path}: columns {', '.join(names)}; needed {', '.join(COLUMNS)}: it was made by an"
            " earlier version, run again with --forcerun evaluate"
        )
    return read_parquet(path, COLUMNS)


def by_split(
    scored: Sequence[Scored], label: Label, left_out: Sequence[str] = ()
) -> dict[str, dict[str, pd.DataFrame]]:
    """The expressions of each split, of each scored thing by its label."""
    series: dict[str, dict[str, pd.DataFrame]] = {}
    for result in scored:
        if result.expressions is not None and result.kind not in left_out:
            series.setdefault(result.split, {})[label(result.about)] = result.expressions
    return series
