"""risflow why: the steps that a target would run, and the option, file or version behind it."""

from typing import Annotated

import typer

from risflow.completion import targets
from risflow.console import notes, out
from risflow.project.run_options import ChangedRunConfig, parse_run_options


def why(
    target: Annotated[
        str, typer.Argument(help="As snakemake is given it.", autocompletion=targets)
    ] = "demo",
    config: ChangedRunConfig = None,
) -> None:
    """Which steps would run, and why."""
    from rich.table import Table

    from risflow.project.project import read_project, require_target
    from risflow.project.reasons import find_reasons

    options = parse_run_options(config, may_change=True)
    configs = read_project(options)
    require_target(target, configs)
    reasons = find_reasons(target, configs, options)
    if not reasons:
        notes.print(f"{target}: nothing would run", markup=False)
        return
    table = Table(box=None, pad_edge=False)
    table.add_column("step")
    table.add_column("why")
    for step, reason in reasons:
        table.add_row(step, reason)
    out.print(table)
