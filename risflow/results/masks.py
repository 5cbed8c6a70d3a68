"""risflow masks: the masks of an experiment in the format of another tool."""

from pathlib import Path
from typing import Annotated

import typer

from risflow.completion import experiments
from risflow.console import notes, out
from risflow.project.run_options import RunConfig, parse_run_options
from stages.config.exports import MaskFormat, MaskStage


def masks(
    experiment: Annotated[
        str, typer.Argument(help="A name of configs/experiments/.", autocompletion=experiments)
    ],
    format: Annotated[MaskFormat, typer.Option(help="The format.")],
    stage: Annotated[MaskStage, typer.Option(help="Whose masks.")] = "predictions",
    split: Annotated[
        list[str] | None, typer.Option(help="A split; several: again. Else the first evaluated.")
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(help="A folder, or one file (.zip; .json of coco). Else below masks/."),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace an earlier export.")] = False,
    config: RunConfig = None,
) -> None:
    """Masks of an experiment for other tools."""
    from risflow.project.project import find_experiment, read_project
    from risflow.results.stage_files import find_stage_files
    from stages.mask_formats.export import Export, require_place

    options = parse_run_options(config)
    configs = read_project(options)
    splits = tuple(split or find_experiment(experiment, configs).evaluation.splits[:1])
    place = output or Path("masks", "-".join([experiment, stage, *splits, format]))
    require_place(place, format, force)
    samples, shards = find_stage_files(experiment, stage, splits, format, configs, options)
    export = Export(format, stage, splits, place)
    counts, images = export.write(samples, shards)
    out.print(str(place), markup=False)
    notes.print(
        f"{counts['masks']:,} masks of {counts['images']:,} images, {counts['empty']:,} of them"
        f" empty{_told_names(format, place, images)}",
        markup=False,
    )


def _told_names(format: str, place: Path, images: Path) -> str:
    """What the names of images in an export are relative to; it may have none."""
    if format == "yolo":  # has the images themselves
        return ""
    if format not in ("png", "labelme"):
        return f"; file names are relative to {images}"
    unpacked = f", unpacked into a folder in {place.parent}" if place.suffix == ".zip" else ""
    return f"; paths of images are relative to the file that they stand in{unpacked}"
