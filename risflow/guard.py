"""Lets through only the requests that the page of `risflow serve` makes, for uploaded files only.

gradio opens a file wherever a request says that it is, and serves more routes than the page needs.
Here other routes are not found, and a request for a file that was not uploaded is refused, with one
message for all such files.
"""

import json
from collections.abc import Iterator
from typing import Any

from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from risflow.uploads import REFUSED, Uploads

MOST_BYTES = 1_000_000  # of a request that is no upload: expressions and the names of files

_FILE = "/gradio_api/file="  # before the path of a file
_UPLOAD = "/gradio_api/upload"
_PAGES = ("/", "/health", "/config", "/theme.css", "/favicon.ico", "/robots.txt", "/manifest.json")
_STATE = ("/gradio_api/info", "/gradio_api/queue/data", "/gradio_api/upload_progress")
_BELOW = ("/assets/", "/static/", "/svelte/", "/gradio_api/call/find/", "/gradio_api/heartbeat/")
_EVENTS = (
    *("/gradio_api/queue/join", "/gradio_api/cancel", "/gradio_api/reset"),
    *("/gradio_api/call/find", "/gradio_api/run/find", "/gradio_api/run/predict"),
)


class Guard:
    """An ASGI application in front of another one."""

    def __init__(self, app: ASGIApp, uploads: Uploads) -> None:
        self.app, self.uploads = app, uploads

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
        elif scope["type"] == "http":
            await self._http(scope, receive, send)
        else:  # a websocket, of which the page opens none
            await send({"type": "websocket.close"})

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        method, path = scope["method"], scope["path"]
        if method in ("GET", "HEAD") and path.startswith(_FILE):
            if self.uploads.holds(path.removeprefix(_FILE)):
                await self.app(scope, receive, send)
            else:
                await _refuse(403, REFUSED)(scope, receive, send)
        elif (method in ("GET", "HEAD") and _is_read(path)) or (method, path) == ("POST", _UPLOAD):
            await self.app(scope, receive, send)
        elif method == "POST" and path in _EVENTS:
            await self._ask(scope, receive, send)
        else:
            await _refuse(404, "not found")(scope, receive, send)

    async def _ask(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on a request in JSON, as it was parsed here, if all its files are uploads."""
        try:
            body = await _body(Request(scope, receive))
        except ClientDisconnect:
            return
        if body is None:
            await _refuse(413, f"request too long; at most {MOST_BYTES:,} bytes")(
                scope, receive, send
            )
            return
        try:
            content = json.loads(body)
            checked = json.dumps(content).encode()
        except (ValueError, RecursionError):
            await _refuse(400, "not JSON")(scope, receive, send)
            return
        if all(self.uploads.holds(path) for path in _paths(content)):
            headers = [(k, v) for k, v in scope["headers"] if k != b"content-length"]
            headers.append((b"content-length", str(len(checked)).encode()))
            await self.app({**scope, "headers": headers}, _replay(checked, receive), send)
        else:
            await _refuse(403, REFUSED)(scope, receive, send)


def _is_read(path: str) -> bool:
    return path in (*_PAGES, *_STATE) or path.startswith(_BELOW)


def _refuse(status: int, detail: str) -> JSONResponse:
    return JSONResponse({"detail": detail}, status)  # the page shows `detail`


async def _body(request: Request) -> bytes | None:
    """The body of a request; None as soon as it is too long."""
    body = b""
    async for part in request.stream():
        body += part
        if len(body) > MOST_BYTES:
            return None
    return body


def _paths(content: Any) -> Iterator[object]:
    """Every path in a request, however deep. None means that no picture was given."""
    remaining = [content]
    while remaining:
        value = remaining.pop()
        if isinstance(value, dict):
            if value.get("path") is not None:
                yield value["path"]
            remaining.extend(value.values())
        elif isinstance(value, list):
            remaining.extend(value)


def _replay(body: bytes, receive: Receive) -> Receive:
    """A receive channel that gives this body first, then what comes next (a disconnect)."""
    messages: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def again() -> Message:
        return messages.pop() if messages else await receive()

    return again
