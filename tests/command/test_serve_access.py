"""Names, origins, logins and limits of the page: the guard in front of a small application."""

import asyncio
import json
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

pytest.importorskip("starlette", reason="gradio is not installed ([serve])")

from starlette.types import Receive, Scope, Send

from risflow.serve.access import Access, read_login
from risflow.serve.drawings import Drawings
from risflow.serve.guard import Guard, Limits
from risflow.serve.uploads import Uploads
from risflow.serve.worker import Worker
from stages.runtime.errors import InputError

Ask = Callable[..., httpx.Response]


@pytest.fixture
def uploads(tmp_path: Path) -> Uploads:
    return Uploads(tmp_path.resolve(), most_files=3, most_bytes=1000)


@pytest.fixture
def ask(uploads: Uploads) -> Ask:
    """Sends a request through a guard."""

    async def behind(scope: Scope, receive: Receive, send: Send) -> None:
        body = (await receive())["body"] if scope["method"] == "POST" else b""
        content = json.dumps([str(uploads.folder), scope["path"], body.decode()]).encode()
        length = (b"content-length", str(len(content)).encode())
        await send({"type": "http.response.start", "status": 200, "headers": [length]})
        await send({"type": "http.response.body", "body": content})

    def send(
        method: str,
        path: str,
        access: Access | None = None,
        limits: Limits | None = None,
        server: str = "http://127.0.0.1:7860",
        **options: Any,
    ) -> httpx.Response:
        async def run() -> httpx.Response:
            transport = httpx.ASGITransport(Guard(behind, uploads, access, limits))
            async with httpx.AsyncClient(transport=transport, base_url=server) as client:
                return await client.request(method, path, **options)

        return asyncio.run(run())

    return send


@pytest.mark.parametrize("path", ["/", "/gradio_api/call/find"])
def test_only_its_own_names_reach_a_server(ask: Ask, path: str) -> None:
    method = "GET" if path == "/" else "POST"

    def status(host: str, hosts: tuple[str, ...] = ()) -> int:
        headers = {"host": host}
        access = Access(frozenset(hosts))
        data = [None, "", [], 0]
        return ask(method, path, access, headers=headers, json={"data": data}).status_code

    for host in ("localhost", "127.0.0.1:7860", "[::1]:7860", "LOCALHOST:1", "127.9.9.9"):
        assert status(host) == 200, host
    for host in (
        "evil.example",
        "evil.example:7860",
        "localhost.evil.example",
        "10.0.0.7",
        "",
        "a b",
    ):
        assert status(host) == 403, host
    for host in ("127.0.0.1@evil.example", "localhost:80:80", "localhost/", "[::1", "0x7f.1"):
        assert status(host) == 403, host
    assert status("RIS.example:80", ("ris.example",)) == 200
    assert status("evil.example", ("ris.example",)) == 403


def test_an_address_reaches_the_server_that_has_it(ask: Ask) -> None:
    assert ask("GET", "/", server="http://192.0.2.7:80").status_code == 200
    headers = {"host": "192.0.2.8"}
    assert ask("GET", "/", server="http://192.0.2.7:80", headers=headers).status_code == 403


@pytest.mark.parametrize("path", ["queue/join", "call/find", "run/predict", "upload"])
def test_pages_of_other_sites_are_refused(ask: Ask, path: str) -> None:
    for origin in ("https://evil.example", "null", "http://127.0.0.1:9", "http://localhost:7860"):
        reply = ask("POST", f"/gradio_api/{path}", headers={"origin": origin}, content=b"{}")
        assert reply.status_code == 403 and "another site" in reply.text, origin
    headers = {"origin": "http://127.0.0.1:7860"}
    data = [None, "", [], 0]
    reply = ask("POST", "/gradio_api/call/find", headers=headers, json={"data": data})
    assert reply.status_code == 200


def test_a_login_is_asked_for_everywhere(ask: Ask) -> None:
    access = Access(login="ann:päss:word")
    for path in ("/", "/health", "/assets/a.js", "/drawn/x", "/gradio_api/file=/uploads/a"):
        reply = ask("GET", path, access)
        assert reply.status_code == 401 and reply.headers["www-authenticate"].startswith("Basic")
        assert ask("GET", path, access, auth=("ann", "wrong")).status_code == 401
        assert ask("GET", path, access, auth=("ann", "päss:word")).status_code != 401
    for value in ("", "Basic", "Basic *", "Bearer YW5uOnDDpHNzOndvcmQ=", "Basic " + "A" * 10_000):
        assert ask("GET", "/", access, headers={"authorization": value}).status_code == 401


def test_a_login_comes_from_a_file_of_its_owner_or_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert read_login(None) is None
    monkeypatch.setenv("RISFLOW_LOGIN", "ann:secret")
    assert read_login(None) == "ann:secret"
    file = tmp_path / "login"
    file.write_text("bob:other\n")
    file.chmod(0o644)
    with pytest.raises(InputError, match="others can read it; chmod 600"):
        read_login(file)
    file.chmod(0o600)
    assert read_login(file) == "bob:other"
    file.write_text("bob:other\n", encoding="utf-8-sig")
    assert read_login(file) == "bob:other"
    file.write_bytes(b"b\xf6b:other")
    with pytest.raises(InputError, match="not UTF-8"):
        read_login(file)
    with pytest.raises(InputError, match="a folder"):
        read_login(tmp_path)
    for wrong in ("", "ann", ":x", "ann:", "ann:a\nbob:b"):
        file.write_text(wrong)
        with pytest.raises(InputError, match="needed one line, name:password"):
            read_login(file)


def test_no_answer_names_the_folder_of_uploads(ask: Ask, uploads: Uploads) -> None:
    (uploads.folder / "a.png").write_bytes(b"x")
    data = [{"path": "/uploads/a.png"}, "x", [], 0]
    for method, path in (("GET", "/"), ("GET", "/config"), ("POST", "/gradio_api/call/find")):
        options = {"json": {"data": data}} if method == "POST" else {}
        reply = ask(method, path, **options)
        assert reply.json()[0] == "/uploads" and str(uploads.folder) not in reply.text
    assert json.loads(reply.json()[2])["data"] == data


def test_bodies_have_limits(ask: Ask, uploads: Uploads) -> None:
    event, upload = "/gradio_api/call/find", "/gradio_api/upload"
    reply = ask("POST", event, limits=Limits(receiving=0), json={"data": []})
    assert reply.status_code == 503 and "too many requests" in reply.json()["detail"]
    reply = ask("POST", event, limits=Limits(free_bytes=10**18), json={"data": []})
    assert reply.status_code == 503 and "short of memory" in reply.json()["detail"]
    for files in ([("files", ("a", b"x"))] * 2, [("other", ("a", b"x"))]):
        assert ask("POST", upload, files=files).status_code == 400
    assert ask("POST", upload, content=b"x").status_code == 400
    assert ask("POST", upload, files={"files": ("a", b"x")}).status_code == 200
    assert ask("GET", f"/config?{'a' * 600}").status_code == 414
    for wrong in ([], {}, {"data": 1}, {"data": [1] * 9}, {"data": [], "session_hash": "a/b" * 99}):
        assert ask("POST", event, json=wrong).status_code == 422
    extra = {"data": [None, "", [], 0], "batched": True, "event_data": {"a": 1}, "oauth_token": "x"}
    assert ask("POST", event, json=extra).json()[2] == '{"data": [null, "", [], 0]}'


def test_a_slow_body_is_given_up(uploads: Uploads) -> None:
    sent: list[Any] = []

    async def receive() -> Any:
        await asyncio.sleep(60)

    async def send(message: Any) -> None:
        sent.append(message)

    async def behind(*_: Any) -> None:
        raise AssertionError

    guard = Guard(behind, uploads, limits=Limits(seconds=0.05))
    scope = {"type": "http", "method": "POST", "path": "/gradio_api/call/find"}
    scope |= {"query_string": b"", "headers": [(b"host", b"localhost")]}  # type: ignore[dict-item]
    asyncio.run(guard(scope, receive, send))
    assert sent[0]["status"] == 408


def test_uploads_have_limits_and_the_oldest_give_way(ask: Ask, uploads: Uploads) -> None:
    def write(name: str, size: int, age: float) -> Path:
        path = uploads.folder / name
        path.write_bytes(b"x" * size)
        os.utime(path, (time.time() - age,) * 2)
        return path

    example = write("example", 5000, 9000)
    uploads.examples.add(example)
    old, middle, new = write("old", 100, 900), write("middle", 100, 800), write("new", 100, 10)
    assert uploads.make_room(100)  # a fourth file
    assert not old.exists() and middle.exists()
    assert uploads.make_room(850)  # with 100 of these 200 bytes
    assert not middle.exists() and new.exists() and example.exists()
    assert not uploads.make_room(950)  # what is new stays
    assert new.exists()
    files = {"files": ("a", b"x" * 950)}
    reply = ask("POST", "/gradio_api/upload", files=files)
    assert reply.status_code == 503 and "too many uploads" in reply.json()["detail"]


def test_drawings_have_a_limit() -> None:
    drawings = Drawings(most_bytes=1000)
    names = [drawings.add(bytes(300)) for _ in range(5)]
    assert [drawings.get(name) is not None for name in names] == [False, False, True, True, True]
    assert drawings.get("other") is None and len(set(names)) == 5


def test_one_prediction_runs_at_a_time_though_its_visitor_gave_up() -> None:
    running, most = 0, 0
    threads = set()

    def predict() -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        threads.add(threading.get_ident())
        time.sleep(0.05)
        running -= 1

    async def run() -> None:
        worker = Worker()
        for _ in range(5):
            task = asyncio.create_task(worker.run(predict))
            await asyncio.sleep(0.01)
            task.cancel()
        await worker.run(predict)

    asyncio.run(run())
    assert most == 1 and len(threads) == 1
