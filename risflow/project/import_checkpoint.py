"""risflow import: official checkpoints as model files like our own."""

from pathlib import Path
from typing import Annotated, Literal

import typer

System = Literal["cris", "etris", "detris", "rela", "tris", "tris_stage1"]


def import_checkpoint(
    checkpoint: Annotated[Path, typer.Argument(help="The official file, or hf:owner/name/file.")],
    system: Annotated[System, typer.Option(help="Whose it is.")],
    out: Annotated[Path, typer.Option(help="The model file to write (.safetensors).")],
    experiment: Annotated[
        str | None, typer.Option(help="Its options; else the experiment that it fits.")
    ] = None,
) -> None:
    """An official checkpoint as a model file, weight by weight."""
    if out.suffix != ".safetensors":
        raise typer.BadParameter("needed a file name that ends in .safetensors", param_hint="--out")
    from risflow.project.project import read_project

    configs = read_project()
    from risflow.project.hub import local_file
    from risflow.project.official import import_official

    import_official(local_file(checkpoint), system, out, configs, experiment)
