"""risflow export: a model for other programs."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from risflow.console import notes

Format = Literal["onnx", "safetensors"]


def export(
    model: Annotated[Path, typer.Argument(help="A model file, or hf:owner/name/file.")],
    format: Annotated[Format, typer.Option(help="What to write.")],
    out: Annotated[Path, typer.Option(help="The file to write.")],
) -> None:
    """Write a model as a checked ONNX graph, or with a model card."""
    if out.suffix != f".{format}":
        raise typer.BadParameter(f"needed a file name that ends in .{format}", param_hint="--out")
    from risflow.project.hub import local_file

    model = local_file(model)
    if not model.is_file():
        raise FileNotFoundError(f"{model}: no such file; needed a model file (.safetensors)")
    if format == "safetensors":
        from risflow.export.model_card import export_with_card

        files = export_with_card(model, out)
    else:
        from risflow.export.onnx_graph import export_onnx, require_onnx

        require_onnx()
        difference, limit = export_onnx(model, out)
        notes.print(
            f"largest difference from PyTorch: {difference:.2g}, of at most {limit:.2g}",
            markup=False,
        )
        files = [out]
    for path in files:
        notes.print(f"written: {path}", markup=False)
