"""risflow predict: masks of the objects that expressions refer to."""

import math
from pathlib import Path
from typing import Annotated, Literal

import typer

from risflow.project.run_options import RunConfig, parse_run_options

ARGUMENTS = "IMAGE... EXPRESSION..."
DEVICES = Literal["auto", "cpu", "cuda"]
PRECISIONS = Literal["float32", "tf32", "bfloat16"]  # stages.config.section loads too slowly here


def predict(
    arguments: Annotated[
        list[str] | None,
        typer.Argument(
            help="Image files or folders, then expressions of objects.",
            metavar=ARGUMENTS,
        ),
    ] = None,
    table: Annotated[
        Path | None,
        typer.Option(help="Instead: a table (CSV, JSONL, Parquet) of image, expression."),
    ] = None,
    model: Annotated[
        Path | None,
        typer.Option(
            help="A model file, an official checkpoint, or hf:owner/name/file; else the newest"
            " segmentor of results/."
        ),
    ] = None,
    output: Annotated[Path, typer.Option(help="The folder for the results.")] = Path("predictions"),
    device: Annotated[DEVICES, typer.Option(help="Where to compute.")] = "auto",
    precision: Annotated[
        PRECISIONS, typer.Option(help="Of the numbers; bfloat16 is faster on a GPU.")
    ] = "float32",
    heatmap: Annotated[
        bool, typer.Option("--heatmap", help="Draw the response over the image, too.")
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="Print JSON, not a table.")] = False,
    max_megapixels: Annotated[
        float, typer.Option(min=0.001, help="The largest image that is accepted.")
    ] = 50,
    config: RunConfig = None,
) -> None:
    """Predict masks of the objects that expressions refer to."""
    if not math.isfinite(max_megapixels):
        raise typer.BadParameter("needed a finite number", param_hint="--max-megapixels")
    if (table is None) == (not arguments):
        raise typer.BadParameter("needed both, or --table", param_hint=ARGUMENTS)
    from risflow.predict.requests import Request, read_requests, split_arguments

    images, expressions = split_arguments(arguments or [])
    if images and not expressions:
        order = f"; {images[0]} is taken as an image, which comes first"
        told = "" if images[0].exists() else order
        raise typer.BadParameter(
            f"no expression for {images[-1]} is given{told}", param_hint=ARGUMENTS
        )
    from risflow.predict.batch import predict_all, require_folder
    from risflow.project.hub import local_file
    from risflow.project.project import choose_segmentor, read_project, results_folder

    if table is not None:
        requests, findings = read_requests(table)
    else:
        requests, findings = [Request(image, expressions) for image in images], []
    require_folder(output)
    options = parse_run_options(config)
    chosen = local_file(model) if model else choose_segmentor(results_folder(options))
    failures = [str(finding) for finding in findings]
    if chosen.is_file() and chosen.suffix != ".safetensors":
        from risflow.project.official import import_of_any_system

        official, chosen = chosen, output / f"{chosen.stem}.safetensors"
        output.mkdir(parents=True, exist_ok=True)
        import_of_any_system(official, chosen, read_project(options))
    most_pixels = round(max_megapixels * 1e6)
    predict_all(requests, failures, chosen, output, device, precision, json, most_pixels, heatmap)
