"""risflow serve: a page to try models on."""

import importlib.util
from pathlib import Path
from typing import Annotated

import typer

from risflow.console import notes
from stages.runtime.errors import InputError


def serve(
    model: Annotated[
        list[Path] | None, typer.Option(help="Models to show; else the newest segmentor.")
    ] = None,
    host: Annotated[str, typer.Option(help="0.0.0.0: also from other machines.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0: any free one.")] = 7860,
) -> None:
    """Open a page: drop an image, type expressions, see masks."""
    from risflow.project.project import newest_segmentor, results_folder
    from risflow.serve.server import listen, load_models, run_server

    require_gradio()
    results = results_folder()
    paths = model or [newest_segmentor(results)]
    listening = listen(host, port)  # at once: the models take seconds to load
    with listening:
        models = load_models(paths)
        notes.print(f"models: {', '.join(models)}", markup=False)
        run_server(models, _examples(results), listening)


def require_gradio() -> None:
    """Raises InputError where the optional dependency is missing."""
    if importlib.util.find_spec("gradio") is None:
        raise InputError("serve: gradio is not installed: pip install -e '.[serve]'")


def _examples(results: Path) -> Path | None:
    """The samples of a generated data set, if one was made: they give the page examples."""
    return min(results.glob("refshapes*/samples/samples.json"), default=None)
