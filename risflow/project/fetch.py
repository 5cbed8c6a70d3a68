"""risflow fetch: public data and weights."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from risflow.console import notes, out
from risflow.project.run_options import RunConfig, parse_run_options

if TYPE_CHECKING:
    from stages.config.settings import Download

DATA = Path("data")


def fetch(
    names: Annotated[list[str] | None, typer.Argument(help="Names of the list.")] = None,
    show: Annotated[bool, typer.Option("--list", help="Show what there is.")] = False,
    config: RunConfig = None,
) -> None:
    """Public data and weights into data/, resumed and checked."""
    if bool(names) == show:
        raise typer.BadParameter("needed names of downloads, or --list", param_hint="")
    from risflow.project.project import read_project
    from stages import fetch as step
    from stages.runtime.errors import InputError

    configs = read_project(parse_run_options(config))
    if show:
        _print_list(configs.downloads)
        return
    unknown = [name for name in names or [] if name not in configs.downloads]
    if unknown:
        known = ", ".join(configs.downloads)
        raise InputError(f"{unknown[0]!r} is no download; known: {known}")
    for name in names or []:
        step.run(
            configs.downloads[name], DATA, configs.settings.results / "downloads" / f"{name}.json"
        )
        notes.print(f"{name}: in {DATA}", markup=False)


def _print_list(downloads: "dict[str, Download]") -> None:
    from rich.table import Table

    from stages.data.download import is_there

    table = Table(box=None, pad_edge=False)
    for name in ("name", "files", "size", "license", "there"):
        table.add_column(name, overflow="fold")
    for name, download in downloads.items():
        files = download.contents
        there = sum(is_there(file, DATA) for file in files)
        table.add_row(
            name,
            str(len(files)),
            ", ".join(file.size for file in files if file.size) or "-",
            ", ".join(dict.fromkeys(file.license for file in files if file.license)) or "-",
            "yes" if there == len(files) else f"{there} of {len(files)}" if there else "no",
        )
    out.print(table)
