"""Scores of several experiments side by side: one table for each data set."""

import logging
from itertools import groupby
from pathlib import Path

from stages.core.command import main
from stages.core.files import read_json, replacing
from stages.reporting import table

log = logging.getLogger(__name__)


def run(metrics: list[Path], scores: Path) -> None:
    """`metrics` in the order of rows; those of one data set follow each other."""
    entries = [read_json(path) for path in metrics]
    blocks = []
    for dataset, group in groupby(entries, key=lambda entry: str(entry["dataset"])):
        text = table.text_table(list(group), table.label_in_comparison)
        blocks.append(f"{dataset}\n\n{text}")
    with replacing(scores) as temporary:
        temporary.write_text("\n".join(blocks))
    log.info("%d rows", len(entries))


if __name__ == "__main__":
    main(run)
