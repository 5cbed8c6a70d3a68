"""risflow status: what of a target is done, running, waiting or failed, and the time left."""

import shlex
from typing import Annotated

import typer

from risflow.completion import targets
from risflow.console import notes, out
from risflow.project.run_options import ChangedRunConfig, parse_run_options


def status(
    target: Annotated[
        str, typer.Argument(help="As snakemake is given it.", autocompletion=targets)
    ] = "demo",
    json: Annotated[bool, typer.Option("--json", help="Print JSON, not a table.")] = False,
    config: ChangedRunConfig = None,
) -> None:
    """What of a target is done, runs or failed; the time left."""
    import json as encoder

    from risflow.project.project import read_project, require_target
    from risflow.status.progress import config_of_run
    from risflow.status.status import find_status, show, values

    followed = config_of_run() if config is None else []
    if followed:
        notes.print(f"like the run that is alive: --config {shlex.join(followed)}", markup=False)
    options = parse_run_options(followed or config, may_change=True)
    configs = read_project(options)
    require_target(target, configs)
    current = find_status(target, configs, options)
    if json:
        out.print_json(encoder.dumps(values(current)))
    else:
        show(current, out, notes)
