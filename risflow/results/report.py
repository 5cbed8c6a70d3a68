"""risflow report: the page of an experiment."""

import webbrowser
from typing import Annotated

import typer

from risflow.completion import experiments
from risflow.console import out
from risflow.project.run_options import RunConfig, parse_run_options


def report(
    experiment: Annotated[
        str, typer.Argument(help="A name of configs/experiments/.", autocompletion=experiments)
    ],
    show: Annotated[bool, typer.Option("--open", help="Open it in the browser.")] = False,
    config: RunConfig = None,
) -> None:
    """The path of an experiment's page."""
    from risflow.project.project import find_experiment, read_project
    from stages.runtime.errors import InputError

    options = parse_run_options(config)
    configs = read_project(options)
    find_experiment(experiment, configs)
    path = (configs.settings.results / experiment / "report.html").resolve()
    if not path.is_file():
        raise InputError(f"{path}: not made yet: {options.command(experiment)}")
    out.print(str(path), markup=False)
    if show:
        webbrowser.open(path.as_uri())
