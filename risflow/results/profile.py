"""risflow profile: how large a model is, and what one prediction costs."""

from typing import Annotated, Literal

import typer

from risflow.completion import experiments
from risflow.console import notes, out

DEVICES = Literal["auto", "cpu", "cuda"]


def profile(
    model: Annotated[
        str,
        typer.Argument(
            help="A model file or official checkpoint, an experiment, or a system (cris, ...).",
            autocompletion=experiments,
        ),
    ],
    device: Annotated[DEVICES, typer.Option(help="Where to compute.")] = "auto",
    warm_up: Annotated[int, typer.Option(min=0, help="Predictions before the measured ones.")] = 10,
    repeats: Annotated[int, typer.Option(min=1, help="Predictions that are measured.")] = 50,
    json: Annotated[bool, typer.Option("--json", help="Print JSON, not a table.")] = False,
) -> None:
    """Parameters, FLOPs, latency and memory of a model."""
    import json as encoder
    from dataclasses import asdict

    from rich.table import Table

    from risflow.results.profiled_model import find_model
    from stages.inference.profile import measure
    from stages.runtime.device import pick_device

    title, network, config = find_model(model)
    measured = measure(network, config, pick_device(device), warm_up, repeats)
    if json:
        out.print_json(encoder.dumps({"model": title, **asdict(measured)}))
        return
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column()
    table.add_column(justify="right")
    for name, value in measured.rows():
        table.add_row(name, value)
    notes.print(f"{title}, {measured.image_size} x {measured.image_size}, batch 1", markup=False)
    out.print(table)
