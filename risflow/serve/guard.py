"""Passes on only the requests that the page of `risflow serve` makes, for uploaded files only.

gradio opens any file that a request names, and serves more routes than the page needs. The guard
answers 404 on other routes, and refuses requests for files that were not uploaded with one message
for all such files.
"""

import json
from collections.abc import Iterable, Iterator
from typing import Any

from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from risflow.serve.uploads import REFUSED, Uploads

MOST_EVENT_BYTES = 1_000_000  # of expressions and the names of files; uploads have their own limit

_FILE = "/gradio_api/file="  # before the path of a file
_UPLOAD = "/gradio_api/upload"
_READ = (
    "/",
    "/health",
    "/config",
    "/theme.css",
    "/favicon.ico",
    "/robots.txt",
    "/manifest.json",
    "/gradio_api/info",
    "/gradio_api/queue/data",
    "/gradio_api/upload_progress",
)
_READ_BELOW = (
    "/assets/",
    "/static/",
    "/svelte/",
    "/gradio_api/call/find/",
    "/gradio_api/heartbeat/",
)
_EVENTS = (
    "/gradio_api/queue/join",
    "/gradio_api/cancel",
    "/gradio_api/reset",
    "/gradio_api/call/find",
    "/gradio_api/run/find",
    "/gradio_api/run/predict",
)


class Guard:
    """An ASGI application in front of another one."""

    def __init__(self, app: ASGIApp, uploads: Uploads) -> None:
        self.app, self.uploads = app, uploads

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":  # the page opens none
            await send({"type": "websocket.close"})
            return
        try:
            if scope["type"] == "http":
                scope, receive = await self._checked(scope, receive)
        except ClientDisconnect:
            return
        except HTTPException as refused:
            content = {"detail": refused.detail}  # which the page shows
            await JSONResponse(content, refused.status_code)(scope, receive, send)
        else:
            await self.app(scope, receive, send)

    async def _checked(self, scope: Scope, receive: Receive) -> tuple[Scope, Receive]:
        """The request to pass on. Raises HTTPException for one that is refused."""
        method, path = scope["method"], scope["path"]
        if method == "POST" and path in _EVENTS:
            body = self._event(await _body(Request(scope, receive)))
            headers = MutableHeaders(raw=list(scope["headers"]))
            headers["content-length"] = str(len(body))
            return {**scope, "headers": headers.raw}, _replay(body, receive)
        reads = method in ("GET", "HEAD")
        if reads and path.startswith(_FILE):
            self._require_uploads([path.removeprefix(_FILE)])
            return scope, receive
        read = reads and (path in _READ or path.startswith(_READ_BELOW))
        if not read and (method, path) != ("POST", _UPLOAD):
            raise HTTPException(404, "not found")
        return scope, receive

    def _event(self, body: bytes) -> bytes:
        """An event, written anew from its parsed content: gradio cannot parse it differently."""
        try:
            content = json.loads(body)
            parsed = json.dumps(content).encode()
        except (ValueError, RecursionError):
            raise HTTPException(400, "not JSON") from None
        self._require_uploads(_paths(content))
        return parsed

    def _require_uploads(self, paths: Iterable[object]) -> None:
        if not all(self.uploads.holds(path) for path in paths):
            raise HTTPException(403, REFUSED)


async def _body(request: Request) -> bytes:
    """The body of a request. Raises HTTPException as soon as it is too long."""
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > MOST_EVENT_BYTES:
            raise HTTPException(413, f"request too long; at most {MOST_EVENT_BYTES:,} bytes")
    return body


def _paths(content: Any) -> Iterator[object]:
    """Every path in a request, at any depth. None means that no image was given."""
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
    """A receive channel that gives this body first, then the next messages (a disconnect)."""
    messages: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def again() -> Message:
        return messages.pop() if messages else await receive()

    return again
