"""risflow compare: scores of several experiments side by side."""

from typing import Annotated

import typer

from risflow.completion import experiments as known_experiments
from risflow.console import fail, notes, out
from risflow.project.run_options import RunConfig, parse_run_options


def compare(
    experiments: Annotated[
        list[str],
        typer.Argument(help="Names of configs/experiments/.", autocompletion=known_experiments),
    ],
    json: Annotated[bool, typer.Option("--json", help="Print JSON, not a table.")] = False,
    config: RunConfig = None,
) -> None:
    """The scores of several experiments as one table."""
    import json as encoder

    from risflow.project.project import read_project
    from risflow.results.scores import find_scores
    from stages.reporting.table import label_in_comparison, text_table

    options = parse_run_options(config)
    scores = find_scores(experiments, read_project(options))
    for name, split in scores.missing:
        notes.print(f"{name}: not scored on {split} yet: {options.command(name)}", markup=False)
    if not scores.metrics:
        fail("nothing to compare yet")
    if json:
        out.print_json(
            encoder.dumps([row for metrics in scores.metrics.values() for row in metrics])
        )
        return
    for dataset, metrics in scores.metrics.items():
        table = text_table(metrics, label_in_comparison, scores.figures)
        out.print(f"{dataset}\n\n{table}", markup=False)
