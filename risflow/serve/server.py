"""The server of the page."""

import errno
import os
import signal
import socket
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from risflow.console import notes
from risflow.serve.uploads import Uploads
from stages.runtime.errors import InputError, ending_signals

MOST_CONNECTIONS = 100  # a page opens about six; 503 beyond
GRACE = 1  # seconds that open connections have at the end

if TYPE_CHECKING:
    from risflow.predict.model import Model
    from risflow.serve.access import Access


def load_models(paths: Sequence[Path]) -> "dict[str, Model]":
    """Models by the name of their experiment, or by their whole path if names repeat."""
    from risflow.predict.model import Model

    unique = list(dict.fromkeys(paths))
    names = [_name(path) for path in unique]
    shown = [n if names.count(n) == 1 else str(p) for n, p in zip(names, unique, strict=True)]
    return {name: Model(path) for name, path in zip(shown, unique, strict=True)}


def _name(path: Path) -> str:
    """results/<experiment>/<stage>/model.safetensors: <experiment>, <stage> if it is stage 1."""
    if path.name != "model.safetensors":
        return path.stem
    place = path.absolute().parent  # not where its link leads
    stage, experiment = place.name, place.parent.name
    return experiment if stage == "segmentor" else f"{experiment} {stage}"


def run_server(
    models: "Mapping[str, Model]", samples: Path | None, listening: socket.socket, access: "Access"
) -> None:
    """Serve until Ctrl-C, SIGTERM or the end of the terminal, with pages open or not.

    Uploads are in a temporary folder, which is removed at the end.
    """
    import uvicorn

    parent = os.environ.get("GRADIO_TEMP_DIR")
    if parent:
        Path(parent).mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix="risflow-serve-", dir=parent) as folder:
        uploads = Uploads(Path(folder).resolve())
        os.environ["GRADIO_TEMP_DIR"] = str(uploads.folder)  # read as gradio is imported

        from risflow.serve.page import build_app

        app = build_app(models, samples, uploads, access)
        host, port = listening.getsockname()[:2]
        notes.print(f"page: http://{host}:{port}   (Ctrl-C ends it)", markup=False)
        config = uvicorn.Config(
            app,
            log_level="warning",
            server_header=False,
            limit_concurrency=MOST_CONNECTIONS,
            timeout_graceful_shutdown=GRACE,
        )
        server = uvicorn.Server(config)  # handles Ctrl-C and SIGTERM
        if signal.SIGHUP in ending_signals():
            signal.signal(signal.SIGHUP, server.handle_exit)
        server.run(sockets=[listening])


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens on an address. Raises InputError if the address is not available."""
    listening = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
        listening.listen()
    except OSError as error:
        listening.close()
        remedy = "name another with --port" if error.errno == errno.EADDRINUSE else "see --host"
        raise InputError(f"{host}:{port}: {error.strerror}; {remedy}") from None
    return listening
