"""risflow status: what of a target is done, running, waiting or failed, and the time left."""

from typing import Annotated

import typer

from risflow.completion import targets
from risflow.console import notes, out


def status(
    target: Annotated[
        str, typer.Argument(help="As snakemake is given it.", autocompletion=targets)
    ] = "demo",
    json: Annotated[bool, typer.Option("--json", help="Print JSON, not a table.")] = False,
) -> None:
    """What of a target is done, runs or failed; the time left."""
    import json as encoder

    from risflow.project.project import read_project, require_target
    from risflow.status.status import find_status, show, values

    configs = read_project()
    require_target(target, configs)
    current = find_status(target, configs.settings.results)
    if json:
        out.print_json(encoder.dumps(values(current)))
    else:
        show(current, out, notes)
