"""Passes on only the requests that the page of `risflow serve` makes, for uploaded files only.

gradio opens any file that a request names, serves more routes than the page needs, and tells where
it keeps files. The guard answers 404 on other routes, refuses requests for files that were not
uploaded with one message for all such files, and gives the folder of uploads another name outside.
It reads the body of a request itself, up to a limit, before gradio sees the request.
"""

import asyncio
import json
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import psutil
from pydantic import BaseModel, Field, ValidationError
from starlette.datastructures import MutableHeaders, UploadFile
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from risflow.serve.access import Access
from risflow.serve.rename import renamed
from risflow.serve.uploads import REFUSED, Uploads

MOST_EVENT_BYTES = 100_000  # of expressions and the names of files; uploads have their own limit
MOST_UPLOAD_BYTES = 20_000_000
MOST_QUERY_BYTES = 500
NO_EVENT = "not an event of this page"
NO_CALL = "needed data: an uploaded image (or null), expressions, models and threshold"
FORM_BYTES = 10_000  # of an upload, beside the file

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
    "/drawn/",
    "/gradio_api/call/find/",
    "/gradio_api/heartbeat/",
)
_CALL, _JOIN = "/gradio_api/call/find", "/gradio_api/queue/join"
_EXAMPLE = "/gradio_api/run/predict"  # a click on an example; it alone passes the queue by
_EVENTS = (_CALL, _JOIN, _EXAMPLE)
_PLAIN = ("/assets/", "/static/", "/svelte/", "/drawn/", _FILE)  # they name no file


@dataclass(frozen=True)
class Limits:
    """Beyond them requests are answered with 503."""

    receiving: int = 8  # bodies at the same time
    seconds: float = 60  # to receive one
    free_bytes: int = 300_000_000  # of the machine's memory


class Event(BaseModel):
    """What a click of the page and a client of its function send; the rest is left out."""

    data: list[Any] = Field(max_length=4)
    fn_index: int | None = Field(None, ge=0, le=100)
    trigger_id: int | None = Field(None, ge=0, le=1000)
    session_hash: str | None = Field(None, pattern=r"^[A-Za-z0-9_-]{1,64}$")


class Guard:
    """An ASGI application in front of another one."""

    def __init__(
        self,
        app: ASGIApp,
        uploads: Uploads,
        access: Access | None = None,
        limits: Limits | None = None,
        functions: Collection[int] = (),
        num_examples: int = 0,
    ) -> None:
        self.functions, self.num_examples = functions, num_examples  # that events may name
        self.app, self.uploads = app, uploads
        self.access, self.limits = access or Access(), limits or Limits()
        self._receiving = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":  # the page opens none
            await send({"type": "websocket.close"})
            return
        try:
            if scope["type"] == "http":
                scope, receive = await self._checked(scope, receive)
                if not scope["path"].startswith(_PLAIN):
                    scope, send = renamed(scope, send, self.uploads)
        except ClientDisconnect:
            return
        except HTTPException as refused:
            content = {"detail": refused.detail}  # which the page shows
            response = JSONResponse(content, refused.status_code, refused.headers)
            await response(scope, receive, send)
        else:
            try:
                await self.app(scope, receive, send)
            except asyncio.CancelledError:  # the server ends, with a page open
                with suppress(RuntimeError):
                    await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _checked(self, scope: Scope, receive: Receive) -> tuple[Scope, Receive]:
        """The request to pass on. Raises HTTPException for one that is refused."""
        self.access.require(scope)
        method, path = scope["method"], scope["path"]
        if len(scope["query_string"]) > MOST_QUERY_BYTES:
            raise HTTPException(414, "address too long")
        if method == "POST" and path in _EVENTS:
            with self._one_more_body():
                body = self._event(path, await self._body(scope, receive, MOST_EVENT_BYTES))
            return _with_body(scope, receive, body)
        if method == "POST" and path == _UPLOAD:
            with self._one_more_body():
                body = await self._body(scope, receive, MOST_UPLOAD_BYTES + FORM_BYTES)
                await _require_one_file(*_with_body(scope, receive, body))
                if not await asyncio.to_thread(self.uploads.make_room, len(body)):
                    raise HTTPException(503, "too many uploads; try again in five minutes")
            return _with_body(scope, receive, body)
        reads = method in ("GET", "HEAD")
        if reads and path.startswith(_FILE):
            path = _FILE + self._upload(path.removeprefix(_FILE))
            return {**scope, "path": path, "raw_path": path.encode()}, receive
        if not reads or not (path in _READ or path.startswith(_READ_BELOW)):
            raise HTTPException(404, "not found")
        return scope, receive

    @contextmanager
    def _one_more_body(self) -> Iterator[None]:
        """Raises HTTPException if too many are received, or if memory is short."""
        if self._receiving >= self.limits.receiving:
            raise HTTPException(503, "too many requests at once; try again soon")
        if psutil.virtual_memory().available < self.limits.free_bytes:
            raise HTTPException(503, "the server is short of memory; try again later")
        self._receiving += 1
        try:
            yield
        finally:
            self._receiving -= 1

    async def _body(self, scope: Scope, receive: Receive, most: int) -> bytes:
        """The body of a request. Raises HTTPException as soon as it is too long or too late."""
        body = bytearray()
        try:
            async with asyncio.timeout(self.limits.seconds):
                async for chunk in Request(scope, receive).stream():
                    body += chunk
                    if len(body) > most:
                        raise HTTPException(413, f"request too long; at most {most:,} bytes")
        except TimeoutError:
            raise HTTPException(408, "the request took too long") from None
        return bytes(body)

    def _event(self, path: str, body: bytes) -> bytes:
        """An event, written anew from its parsed content: gradio cannot parse it differently."""
        try:
            content = json.loads(body)
            self._name_uploads(content)
            event = Event.model_validate(content)
            if path == _CALL and not _is_call(event.data):
                raise HTTPException(422, NO_CALL)
            if path != _CALL and not self._is_known(path, event):
                raise HTTPException(422, NO_EVENT)
            return json.dumps(event.model_dump(exclude_none=True)).encode()
        except ValidationError:
            raise HTTPException(422, NO_EVENT) from None
        except (ValueError, RecursionError):
            raise HTTPException(400, "not JSON") from None

    def _is_known(self, path: str, event: Event) -> bool:
        """Whether there are the function and the example that an event of the page names."""
        is_example = event.data in [[number] for number in range(self.num_examples)]
        return event.fn_index in self.functions and (path == _JOIN or is_example)

    def _name_uploads(self, content: Any) -> None:
        """Put in the real path of every file, at any depth. None: no image was given."""
        remaining = [content]
        while remaining:
            value = remaining.pop()
            if isinstance(value, dict):
                if value.get("path") is not None:
                    value["path"] = self._upload(value["path"])
                remaining.extend(value.values())
            elif isinstance(value, list):
                remaining.extend(value)

    def _upload(self, public: object) -> str:
        path = self.uploads.find(public)
        if path is None:
            raise HTTPException(403, REFUSED)
        return path


def _is_call(data: list[Any]) -> bool:
    """Whether gradio can take these values for the page's function, which checks them itself."""
    return len(data) == 4 and (data[0] is None or isinstance(data[0], dict))


async def _require_one_file(scope: Scope, receive: Receive) -> None:
    """Raises HTTPException for an upload that is not one file."""
    try:
        async with Request(scope, receive).form(max_files=1, max_fields=0) as form:
            names = [name for name, value in form.multi_items() if isinstance(value, UploadFile)]
    except (MultiPartException, HTTPException, ValueError):
        names = []
    if names != ["files"]:
        raise HTTPException(400, "not an upload of one file")


def _with_body(scope: Scope, receive: Receive, body: bytes) -> tuple[Scope, Receive]:
    """The request with this body, which is already received."""
    headers = MutableHeaders(raw=list(scope["headers"]))
    del headers["transfer-encoding"]
    headers["content-length"] = str(len(body))
    messages: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def again() -> Message:
        return messages.pop() if messages else await receive()  # a disconnect

    return {**scope, "headers": headers.raw}, again
