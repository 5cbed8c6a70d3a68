"""risflow new-dataset: own pictures and expressions in the project."""

from pathlib import Path
from typing import Annotated

import typer

from risflow.console import notes, out


def new_dataset(
    folder: Annotated[Path, typer.Argument(help="With a table, or a text beside each picture.")],
    name: Annotated[str, typer.Option(help="What to call it.")] = "mine",
    force: Annotated[bool, typer.Option("--force", help="Write files anew.")] = False,
    small_clip: Annotated[
        bool, typer.Option("--small-clip", help="Options that need no download; poor on photos.")
    ] = False,
) -> None:
    """Own pictures and expressions as a data set in configs/."""
    from risflow.project import own_data

    added = own_data.new_dataset(folder, name, force, small_clip)
    notes.print(added.summary, markup=False)
    for path in added.files:
        notes.print(f"written: {path}", markup=False)
    if added.missing is not None:
        notes.print(f"{added.missing}; --small-clip does without weights", markup=False)
    out.print(f"snakemake --cores all prepare_{name}", markup=False)
    out.print(f"snakemake --cores all {name}_masks", markup=False)
