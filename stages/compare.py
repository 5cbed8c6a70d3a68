"""Several experiments side by side: scores of each data set, as a text and as a page with plots."""

import logging
from collections.abc import Sequence
from dataclasses import asdict
from itertools import groupby
from pathlib import Path
from typing import Any

from stages.config.baselines import BASELINES
from stages.config.figures import Figures
from stages.reporting import table
from stages.reporting.analysis import analyze
from stages.reporting.breakdown import GROUP_COLORS
from stages.reporting.browser import browse
from stages.reporting.differences import model_rows, option_rows, paired_differences
from stages.reporting.examples import Examples, Shards
from stages.reporting.page import write_page
from stages.reporting.scored import Scored, by_split, read_scored
from stages.reporting.sweep import sweep_plot
from stages.runtime.command_line import main
from stages.storage.files import replacing
from stages.storage.steps import read_steps
from stages.storage.tables import read_samples

BROWSED = 80  # expressions with all predictions, spread over the split
VERSION = 2

log = logging.getLogger(__name__)


def run(
    steps: Path,
    metrics: list[Path],
    results: list[Path],
    report: Path,
    scores: Path,
    samples: Path | None = None,
    predictions: Sequence[Path] = (),
) -> None:
    """`steps` is the steps.yaml of the page; `metrics` and `results` are in the order of its rows.

    Rows of a data set are together. The experiments of a sweep have one plot of all combinations.
    `samples` and the shards of `predictions`, which the page shows side by side, are those of the
    first data set.
    """
    page = read_steps(steps)
    options: dict[str, Any] = page["options"]
    selections = options.get("selections", [])  # text-only trainings that masks have selected
    figures = {name: Figures(**values) for name, values in options["figures"].items()}
    label = table.label_in_comparison
    blocks, texts = [], []
    scored = read_scored(metrics, results, [row[0] for row in options["rows"]])
    for dataset, group in groupby(scored, key=lambda row: str(row.about["dataset"])):
        members = list(group)
        entries = [row.about for row in members]
        texts.append(f"{dataset}\n\n{table.text_table(entries, label, figures)}")
        series = by_split(members, label, left_out=BASELINES)
        blocks.append(
            {
                "dataset": dataset,
                "columns": table.columns(entries),
                "table": table.rows(entries, label, figures),
                "sweeps": _sweeps(members, options["values"]),
                "analyses": [analyze(split, tables) for split, tables in series.items()],
                "first": next(iter(next(iter(series.values()), {})), ""),
                "differences": [
                    row
                    for split, tables in series.items()
                    for row in paired_differences(split, tables)
                ],
            }
        )
    examples = _side_by_side(page, samples, predictions, scored) if samples else None
    write_page(
        report,
        "comparison.html",
        name=page["name"],
        selections=selections,
        blocks=blocks,
        group_colors=GROUP_COLORS,
        options=option_rows(steps),
        models=model_rows(steps, steps.absolute().parents[3]),
        split=page["split"],
        first=examples.title if examples else None,
        browser=asdict(browse(examples, BROWSED)) if examples else {"examples": []},
    )
    with replacing(scores) as temporary:
        temporary.write_text("\n".join([*texts, *(f"{line}\n" for line in selections)]))
    log.info("%d rows", len(scored))


def _side_by_side(
    page: dict[str, Any], samples: Path, predictions: Sequence[Path], scored: list[Scored]
) -> Examples:
    """The predictions of each segmentor as stages of one example, those of the first in front."""
    names = {
        Path(place).name: name.partition("/")[2]
        for name, place in page["links"].items()
        if name.startswith("predictions/")
    }
    shards: dict[str, list[Path]] = {}
    for path in predictions:
        shards.setdefault(names[path.parent.name], []).append(path)
    first, *others = shards
    about = {"experiment": first, "scored": "segmentor", "split": page["split"]}
    (own,) = [row for row in scored if about.items() <= row.about.items()]
    files = Shards(shards[first], others={name: shards[name] for name in others}, title=first)
    return Examples(read_samples(samples), files, own.expressions)


def _sweeps(members: list[Scored], values: dict[str, dict[str, Any]]) -> list[str]:
    """A plot for each split of a sweep that has scores."""
    entries = [
        row.about for row in members if row.about["experiment"] in values and row.about["scores"]
    ]
    segmentors = [entry for entry in entries if entry["scored"] == "segmentor"]
    splits = dict.fromkeys(entry["split"] for entry in segmentors)
    return [
        sweep_plot(split, [entry for entry in segmentors if entry["split"] == split], values)
        for split in splits
    ]


if __name__ == "__main__":
    main(run)
