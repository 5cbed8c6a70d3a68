"""Several experiments side by side: scores of each data set, as a text and as a page with plots."""

import logging
from itertools import groupby
from pathlib import Path

from stages.config.figures import Compared
from stages.reporting import table
from stages.reporting.analysis import analyze
from stages.reporting.breakdown import GROUP_COLORS
from stages.reporting.page import write_page
from stages.reporting.scored import by_split, read_scored
from stages.runtime.command_line import main
from stages.storage.files import replacing

log = logging.getLogger(__name__)


def run(
    name: str, metrics: list[Path], results: list[Path], figures: Compared, scores: Path, page: Path
) -> None:
    """`metrics` in the order of rows, `results` one for each; those of a data set are together."""
    label, known = table.label_in_comparison, figures.experiments
    blocks, texts = [], []
    scored = read_scored(metrics, results)
    for dataset, group in groupby(scored, key=lambda one: str(one.about["dataset"])):
        members = list(group)
        entries = [one.about for one in members]
        texts.append(f"{dataset}\n\n{table.text_table(entries, label, known)}")
        series = by_split(members, label, left_out=table.BASELINES)
        blocks.append(
            {
                "dataset": dataset,
                "columns": table.columns(entries),
                "table": table.rows(entries, label, known),
                "analyses": [analyze(split, tables) for split, tables in series.items()],
            }
        )
    write_page(page, "comparison.html", name=name, blocks=blocks, group_colors=GROUP_COLORS)
    with replacing(scores) as temporary:
        temporary.write_text("\n".join(texts))
    log.info("%d rows", len(scored))


if __name__ == "__main__":
    main(run)
