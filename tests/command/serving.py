"""Servers of the page, as tests start them."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from tests.command.conftest import write_model
from tests.conftest import ROOT, few_shapes

START = 120  # seconds
END = 5
QUICK: dict[str, Any] = {"verify": False}  # no certificates are loaded for each request


@dataclass(frozen=True)
class Server:
    """A running page."""

    address: str
    process: subprocess.Popen[bytes]
    log: Path
    uploads: Path

    @property
    def memory(self) -> int:
        """Resident bytes."""
        return int(psutil.Process(self.process.pid).memory_info().rss)

    @property
    def peak(self) -> int:
        """The most bytes that were resident at once."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        peak = re.search(r"VmHWM:\s*(\d+) kB", status)
        assert peak
        return int(peak[1]) * 1024


@contextmanager
def serving(
    folder: Path, names: tuple[str, ...], *options: str, **environment: str
) -> Iterator[Server]:
    """A page with models of these names; it must still be there at the end, and leave no file."""
    (folder / "data").symlink_to(ROOT / "data")  # the small CLIP
    few_shapes(
        folder / "results/refshapes_tris/samples", train_images=1, val_images=2, test_images=1
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        models = [write_model(folder / f"{n}.safetensors", f"refshapes_{n}") for n in names]
    arguments = [part for model in models for part in ("--model", str(model))]
    log = folder / "log.txt"
    with log.open("w") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", "risflow.cli", "serve", "--port", "0", *arguments, *options],
            stderr=file,
            cwd=folder,
            env={**os.environ, "GRADIO_TEMP_DIR": str(folder / "uploads"), **environment},
        )
    try:
        address = _address(log, process)
        (uploads,) = (folder / "uploads").iterdir()
        yield Server(address, process, log, uploads)
        if process.poll() is None:
            end(process, signal.SIGINT)
        assert process.returncode == 130, log.read_text()
    finally:
        process.kill()
        process.wait()
    assert not list((folder / "uploads").iterdir())


def end(process: subprocess.Popen[bytes], number: int) -> None:
    """Send the server one signal; raises TimeoutExpired if it goes on."""
    process.send_signal(number)
    process.wait(timeout=END)


def _address(log: Path, server: subprocess.Popen[bytes]) -> str:
    for _ in range(START * 10):
        assert server.poll() is None, log.read_text()
        match = re.search(r"http://[0-9.]+:(\d+)", log.read_text())
        if match and _is_up(f"http://127.0.0.1:{match[1]}"):
            return f"http://127.0.0.1:{match[1]}"
        time.sleep(0.1)
    raise TimeoutError(log.read_text())


def _is_up(address: str) -> bool:
    try:
        return httpx.get(f"{address}/health").status_code in (200, 401)
    except httpx.TransportError:
        return False


def upload(page: str, content: bytes, name: str = "a.png", **options: Any) -> str:
    """What the server calls an uploaded image."""
    files = {"files": (name, content)}
    paths = httpx.post(
        f"{page}/gradio_api/upload", files=files, timeout=60, **QUICK, **options
    ).json()
    return str(paths[0])


def call(page: str, data: list[Any], timeout: float = 60, **options: Any) -> str:
    """Calls the page's function as scripts do; returns the event of its result.

    `data` are image, expressions and models; the threshold is 0 if it is left out.
    """
    address = f"{page}/gradio_api/call/find"
    reply = httpx.post(address, json={"data": (*data, 0)[:4]}, timeout=timeout, **QUICK, **options)
    event = reply.raise_for_status().json()["event_id"]
    return httpx.get(f"{address}/{event}", timeout=timeout, **QUICK, **options).text
