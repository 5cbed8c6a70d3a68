"""Answers in which the folder of uploads has another name: visitors do not learn where it is."""

import html
import json
from urllib.parse import quote

from starlette.datastructures import MutableHeaders
from starlette.types import Message, Scope, Send

from risflow.serve.uploads import PUBLIC, Uploads


def renamed(scope: Scope, send: Send, uploads: Uploads) -> tuple[Scope, Send]:
    """The request without compression of its answer, and where to send the answer."""
    headers = MutableHeaders(raw=list(scope["headers"]))
    del headers["accept-encoding"]
    folder = str(uploads.folder)
    spellings = {
        folder.encode(),
        json.dumps(folder)[1:-1].encode(),
        json.dumps(folder, ensure_ascii=False)[1:-1].encode(),
        html.escape(folder).encode(),
        quote(folder).encode(),
    }

    async def send_renamed(message: Message) -> None:
        if message["type"] == "http.response.start":
            del MutableHeaders(raw=message["headers"])["content-length"]
        elif message["type"] == "http.response.body":
            body = message.get("body", b"")
            for spelling in spellings:
                body = body.replace(spelling, PUBLIC.encode())
            message = {**message, "body": body}
        await send(message)

    return {**scope, "headers": headers.raw}, send_renamed
