"""A server of files on this machine that breaks off, lies, or knows no ranges, as it is told."""

import email.utils
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, TypeVar

AnyServer = TypeVar("AnyServer", bound=ThreadingHTTPServer)
CONTENT = bytes(range(256)) * 4000  # a million bytes


class Server(ThreadingHTTPServer):
    """Knows some files, and what is to go wrong with each request of a file in turn.

    Faults: a status; "break off" (half of the file); "no range"; "no length"; "cut", which is no
    length and half of the file; "any range", which heeds no If-Range.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files: dict[str, bytes] = {}
        self.faults: dict[str, list[str]] = {}
        self.versions: dict[str, tuple[str, str]] = {}  # a header, and its value
        self.asked: list[tuple[str, str | None]] = []  # path and range

    def url(self, name: str, content: bytes = CONTENT, *faults: str) -> str:
        self.files[f"/{name}"], self.faults[f"/{name}"] = content, list(faults)
        return f"http://127.0.0.1:{self.server_address[1]}/{name}"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        wanted = self.headers.get("Range")
        self.server.asked.append((self.path, wanted))
        faults = self.server.faults.get(self.path, [])
        fault = faults.pop(0) if faults else ""
        content = self.server.files.get(self.path)
        if content is None or fault.isdigit():
            self.send_error(int(fault or 404))
            return
        header, version = self.server.versions.get(self.path, ("", ""))
        condition = self.headers.get("If-Range")
        if condition is not None and condition != version and fault != "any range":
            wanted = None
        start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted else 0
        if start and fault != "no range":
            if start >= len(content):
                self.send_error(416)
                return
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        else:
            self.send_response(200)
            start = 0
        if header:
            self.send_header(header, version)
        if fault not in ("no length", "cut"):
            self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        end = len(content) // 2 if fault in ("break off", "cut") else len(content)
        self.wfile.write(content[start:end])

    def log_message(self, *_: Any) -> None:
        pass


@contextmanager
def serving() -> Iterator[Server]:
    with running(Server()) as server:
        yield server


@contextmanager
def running(server: AnyServer) -> Iterator[AnyServer]:
    """The server, answering in a thread of its own."""
    with server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def date(seconds: int) -> str:
    """A date of change, as servers write it."""
    return email.utils.formatdate(seconds, usegmt=True)
