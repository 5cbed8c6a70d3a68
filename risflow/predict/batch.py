"""Predict masks for requests and write them: the work of `risflow predict`."""

import json
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import typer
from rich.markup import escape
from rich.progress import track
from rich.table import Table

from risflow.console import USER_ERROR, notes, out, tell_error
from risflow.predict.images import require_image
from risflow.predict.requests import Request, require_expressions
from stages.config.section import Precision
from stages.runtime.errors import InputError
from stages.runtime.foreign_errors import printable


def require_folder(output: Path) -> None:
    """Raises InputError where the folder of the results is a file."""
    if output.exists() and not output.is_dir():
        raise InputError(f"--output: {output}: a file; needed a folder")


def predict_all(
    requests: Sequence[Request],
    failures: Sequence[str],
    model: Path,
    output: Path,
    device: Literal["auto", "cpu", "cuda"],
    precision: Precision,
    as_json: bool,
    most_pixels: int,
    with_heat_maps: bool = False,
) -> None:
    """Write and print the predictions; what cannot be answered is named, and then the exit code 1.

    Requests are checked before the model is read. `failures` are of requests that are none.
    """
    failed = list(failures)
    answered = [request for request in requests if _is_answered(request, most_pixels, failed)]
    started = time.monotonic()
    records: list[dict[str, Any]] = []
    if answered:
        output.mkdir(parents=True, exist_ok=True)
        results = _predictions(
            *(answered, failed, model, output, device, precision, most_pixels, with_heat_maps)
        )
        records = list(results)
    if as_json:
        out.print_json(json.dumps(records))
    elif records:
        out.print(_table(records))
    if records:
        masks = "1 mask" if len(records) == 1 else f"{len(records)} masks"
        seconds = time.monotonic() - started
        notes.print(f"{masks} by {model}, {seconds:.1f} s including the loading", markup=False)
    for failure in failed:
        tell_error(failure)
    if failed:
        raise typer.Exit(USER_ERROR)


def _is_answered(request: Request, most_pixels: int, failed: list[str]) -> bool:
    """Whether a request can be answered; else adds why not."""
    try:
        require_expressions(request.expressions)
        require_image(request.image, most_pixels)
    except InputError as error:
        failed.append(str(error))
        return False
    return True


def _predictions(
    requests: Sequence[Request],
    failed: list[str],
    path: Path,
    output: Path,
    device: Literal["auto", "cpu", "cuda"],
    precision: Precision,
    most_pixels: int,
    with_heat_maps: bool,
) -> Iterator[dict[str, Any]]:
    """The records of all predictions; adds why images that do not decode have none."""
    from risflow.predict.images import load_image
    from risflow.predict.model import Model
    from risflow.predict.outputs import write_prediction

    model = Model(path, device, precision)
    texts = [text for request in requests for text in request.expressions]
    for note in model.limits_for(texts):
        notes.print(f"{path}: {printable(note)}", markup=False)
    for request in track(
        requests,
        f"{path} on {model.device}",
        console=notes,
        transient=True,
        disable=len(requests) == 1,
    ):
        try:
            image = load_image(request.image, most_pixels)
        except InputError as error:
            failed.append(str(error))
            continue
        for text in model.too_long(request.expressions):
            notes.print(f"only the first words are read: {printable(text)}", markup=False)
        results = model.predict_each(image, request.expressions)
        for text, result in zip(request.expressions, results, strict=True):
            yield write_prediction(
                output,
                request.image,
                image,
                text,
                path,
                result,
                model.unknown_words(text),
                with_heat_maps,
            )


def _table(records: Sequence[dict[str, Any]]) -> Table:
    several = len({record["image"] for record in records}) > 1
    table = Table(box=None, pad_edge=False)
    for name in [*(["image"] if several else []), "expression"]:
        table.add_column(name, overflow="fold")
    table.add_column("score", justify="right")
    table.add_column("area", justify="right")
    table.add_column("mask", overflow="fold")
    for record in records:
        area = "no target" if record["no_target"] else f"{100 * record['area']:.1f} %"
        image = [record["image"]] if several else []
        score, mask = f"{record['score']:.2f}", record["files"]["mask"]
        cells = [*image, record["expression"], score, area, mask]
        table.add_row(*(escape(printable(cell)) for cell in cells))
    return table
