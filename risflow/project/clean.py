"""risflow clean: results that no experiment refers to any more."""

import os
import shutil
from pathlib import Path
from typing import Annotated

import typer

from risflow.console import notes, out
from risflow.project.run_options import RunConfig, parse_run_options


def clean(
    yes: Annotated[bool, typer.Option("--yes", help="Remove them.")] = False,
    config: RunConfig = None,
) -> None:
    """Results that no experiment refers to: show or remove them."""
    from risflow.project.project import read_project
    from risflow.project.references import read_catalog, unreferred_folders
    from risflow.status.progress import find_run
    from stages.runtime.errors import InputError

    options = parse_run_options(config)
    folders = list(unreferred_folders(read_catalog(read_project(options))))
    if not folders:
        notes.print("every result is one that an experiment refers to", markup=False)
        return
    if yes and find_run() != "none":
        raise InputError("a run of the workflow is active in this folder; nothing was removed")
    total = 0
    for folder in folders:
        size = _size(folder)
        total += size
        out.print(f"{_text(size):>9}  {folder}", markup=False)
        if yes:
            shutil.rmtree(folder)
    if yes:
        notes.print(f"removed: {_text(total)}", markup=False)
    else:
        notes.print(
            f"{_text(total)}; `risflow clean --yes{options.suffix}` removes them", markup=False
        )


def _size(folder: Path) -> int:
    """Bytes of the files in a folder; a link counts as what it is, not as what it leads to."""
    return sum(
        (Path(root) / name).lstat().st_size for root, _, names in os.walk(folder) for name in names
    )


def _text(size: float) -> str:
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1024:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} TiB"
