"""risflow init: a project in a folder of its own, beside the installed package."""

from pathlib import Path
from typing import Annotated

import typer

from risflow.console import notes, out


def init(
    folder: Annotated[Path, typer.Argument(help="Made if it is not there.")],
    update: Annotated[
        bool, typer.Option("--update", help="The workflow anew, for another version.")
    ] = False,
) -> None:
    """A project in a folder: the workflow, experiments, the demo's small CLIP."""
    from risflow.project.files import copy_project, update_workflow

    for name in update_workflow(folder) if update else copy_project(folder):
        notes.print(f"written: {folder / name}", markup=False)
    out.print(f"cd {folder}", markup=False)
    out.print("snakemake --cores all demo", markup=False)
