"""risflow serve: a page to try models on."""

import importlib.util
import os
from pathlib import Path
from typing import Annotated

import typer

from risflow.console import notes
from risflow.project.run_options import RunConfig, parse_run_options
from stages.runtime.errors import InputError

INTERRUPTED = 130  # the exit code of Ctrl-C
LOOPBACK = ("127.0.0.1", "localhost", "::1")


def serve(
    model: Annotated[
        list[Path] | None, typer.Option(help="Models to show; else the newest segmentor.")
    ] = None,
    host: Annotated[str, typer.Option(help="0.0.0.0: also from other machines.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0: any free one.")] = 7860,
    allow_host: Annotated[
        list[str] | None,
        typer.Option(help="A host name that the page is reached by, beside localhost."),
    ] = None,
    login_file: Annotated[
        Path | None,
        typer.Option(help="A file with name:password, else $RISFLOW_LOGIN, else no login."),
    ] = None,
    config: RunConfig = None,
) -> None:
    """Open a page: drop an image, type expressions, see masks."""
    require_gradio()
    from risflow.project.project import choose_segmentor, results_folder
    from risflow.serve.access import Access, read_login
    from risflow.serve.server import listen, load_models, run_server

    access = Access(frozenset(name.lower() for name in allow_host or ()), read_login(login_file))
    results = results_folder(parse_run_options(config))
    paths = model or [choose_segmentor(results)]
    listening = listen(host, port)  # at once: the models take seconds to load
    with listening:
        models = load_models(paths)
        notes.print(f"models: {', '.join(models)}", markup=False)
        if access.login is None and host not in LOOPBACK:
            notes.print("everyone who reaches this port can use the page; see --login-file")
        try:
            run_server(models, _examples(results), listening, access)
        except KeyboardInterrupt:
            os._exit(INTERRUPTED)  # a running prediction, and Python's own end, can take long


def require_gradio() -> None:
    """Raises InputError where the optional dependency is missing."""
    if importlib.util.find_spec("gradio") is None:
        raise InputError("serve: gradio is not installed: pip install 'risflow[serve]'")


def _examples(results: Path) -> Path | None:
    """The samples of a generated data set, if one was made: they give the page examples."""
    return min(results.glob("refshapes*/samples/samples.json"), default=None)
