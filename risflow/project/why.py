"""risflow why: the steps that a target would run, and the option, file or version behind it."""

from typing import Annotated

import typer

from risflow.completion import targets
from risflow.console import notes, out


def why(
    target: Annotated[
        str, typer.Argument(help="As snakemake is given it.", autocompletion=targets)
    ] = "demo",
    changes: Annotated[
        str, typer.Option("--set", help="As in snakemake --config set=...", metavar="OPTION=VALUE")
    ] = "",
) -> None:
    """Which steps would run, and why."""
    from rich.table import Table

    from risflow.project.project import read_project, require_target
    from risflow.project.reasons import find_reasons

    configs = read_project()
    require_target(target, configs)
    reasons = find_reasons(target, configs, changes)
    if not reasons:
        notes.print(f"{target}: nothing would run", markup=False)
        return
    table = Table(box=None, pad_edge=False)
    table.add_column("step")
    table.add_column("why")
    for step, reason in reasons:
        table.add_row(step, reason)
    out.print(table)
