"""Requests answered: what `risflow predict` does."""

import json
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

from rich.markup import escape
from rich.progress import track
from rich.table import Table

from risflow.console import notes, out
from risflow.predict.images import require_picture
from risflow.predict.requests import Request, require_expressions


def answer_all(
    requests: Sequence[Request],
    model: Path,
    output: Path,
    device: Literal["auto", "cpu", "cuda"],
    as_json: bool,
    most_pixels: int,
) -> None:
    """Write and print the answers. Whatever is wrong is found before the model is read."""
    for request in requests:
        require_expressions(request.expressions)
        require_picture(request.image, most_pixels)
    output.mkdir(parents=True, exist_ok=True)
    started = time.monotonic()
    said = list(_answers(requests, model, output, device, most_pixels))
    if as_json:
        out.print_json(json.dumps(said))
    else:
        out.print(_table(said))
    masks = "1 mask" if len(said) == 1 else f"{len(said)} masks"
    seconds = time.monotonic() - started
    notes.print(f"{masks} by {model}, {seconds:.1f} s with its loading", markup=False)


def _answers(
    requests: Sequence[Request],
    path: Path,
    output: Path,
    device: Literal["auto", "cpu", "cuda"],
    most_pixels: int,
) -> Iterator[dict[str, Any]]:
    from risflow.predict.quick_start import import_open_clip

    import_open_clip()
    from risflow.predict.images import read_picture
    from risflow.predict.model import Model
    from risflow.predict.outputs import write_answer

    model = Model(path, device)
    for request in track(
        requests,
        f"{path} on {model.device}",
        console=notes,
        transient=True,
        disable=len(requests) == 1,
    ):
        for text in model.cut(request.expressions):
            notes.print(f"only the first words are read: {text}", markup=False)
        image = read_picture(request.image, most_pixels)
        answers = model.answers(image, request.expressions)
        for text, answer in zip(request.expressions, answers, strict=True):
            yield write_answer(output, request.image, image, text, path, answer)


def _table(said: Sequence[dict[str, Any]]) -> Table:
    several = len({one["image"] for one in said}) > 1
    table = Table(box=None, pad_edge=False)
    for name in [*(["image"] if several else []), "expression"]:
        table.add_column(name, overflow="fold")
    table.add_column("score", justify="right")
    table.add_column("of the image", justify="right")
    table.add_column("mask", overflow="fold")
    for one in said:
        share = "no target" if one["no_target"] else f"{100 * one['share']:.1f} %"
        places = [one["image"]] if several else []
        cells = [*places, one["expression"], f"{one['score']:.2f}", share, one["files"]["mask"]]
        table.add_row(*map(escape, cells))
    return table
