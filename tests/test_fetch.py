"""Fetching from a server on this machine that breaks off, lies, or knows no ranges."""

import hashlib
import io
import json
import threading
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from stages import fetch as step
from stages.config.settings import Download, RemoteFile
from stages.data import download
from stages.runtime.errors import InputError

CONTENT = bytes(range(256)) * 4000  # a million bytes
SHA256 = f"sha256:{hashlib.sha256(CONTENT).hexdigest()}"


class Server(ThreadingHTTPServer):
    """Knows some files, and what is to go wrong with each request of a file in turn."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files: dict[str, bytes] = {}
        self.faults: dict[str, list[str]] = {}
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
        start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted else 0
        if start and fault != "no range":
            if start >= len(content):
                self.send_error(416)
                return
            self.send_response(206)
        else:
            self.send_response(200)
            start = 0
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        end = len(content) // 2 if fault == "break off" else len(content)
        self.wfile.write(content[start:end])

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield running
        running.shutdown()
        thread.join()


def get(folder: Path, *urls: str, **options: Any) -> Path:
    file = RemoteFile(
        path=Path("some/file.bin"), source="here", license="MIT", urls=urls, **options
    )
    download.fetch(file, folder, pause=0.01)
    assert not list((folder / "some").glob(".*")), "nothing is left beside the file"
    return folder / "some/file.bin"


def test_a_file_is_fetched_once(server: Server, tmp_path: Path) -> None:
    url = server.url("file.bin")
    assert get(tmp_path, url, checksum=SHA256).read_bytes() == CONTENT
    get(tmp_path, url)
    assert len(server.asked) == 1


def test_a_broken_connection_is_continued_where_it_broke(server: Server, tmp_path: Path) -> None:
    url = server.url("file.bin", CONTENT, "break off")
    assert get(tmp_path, url, checksum=SHA256).read_bytes() == CONTENT
    assert server.asked == [("/file.bin", None), ("/file.bin", f"bytes={len(CONTENT) // 2}-")]


def test_another_run_continues_what_one_has_left(server: Server, tmp_path: Path) -> None:
    url = server.url("file.bin", CONTENT, "break off", "500", "500")
    with pytest.raises(InputError, match="could not be fetched"):
        get(tmp_path, url)
    assert get(tmp_path, url, checksum=SHA256).read_bytes() == CONTENT
    assert server.asked[-1] == ("/file.bin", f"bytes={len(CONTENT) // 2}-")


def test_a_server_without_ranges_begins_again(server: Server, tmp_path: Path) -> None:
    url = server.url("file.bin", CONTENT, "break off", "no range")
    assert get(tmp_path, url, checksum=SHA256).read_bytes() == CONTENT


def test_what_is_longer_than_the_file_is_thrown_away(server: Server, tmp_path: Path) -> None:
    url = server.url("file.bin", CONTENT[:1000])
    (tmp_path / "some").mkdir()
    name = hashlib.sha256(url.encode()).hexdigest()[:8]
    (tmp_path / f"some/.file.bin.{name}.part").write_bytes(CONTENT)
    assert get(tmp_path, url).read_bytes() == CONTENT[:1000]


def test_wrong_bytes_and_dead_addresses_lead_to_the_next_mirror(
    server: Server, tmp_path: Path
) -> None:
    wrong = server.url("wrong.bin", CONTENT[::-1])
    gone = server.url("gone.bin", CONTENT, "404")
    right = server.url("right.bin")
    assert get(tmp_path, gone, wrong, right, checksum=SHA256).read_bytes() == CONTENT
    assert [path for path, _ in server.asked] == ["/gone.bin", "/wrong.bin", "/right.bin"]


def test_all_addresses_failing_tells_what_each_said_and_where_to_put_the_file(
    server: Server, tmp_path: Path
) -> None:
    wrong = server.url("wrong.bin", b"something else")
    gone = server.url("gone.bin", CONTENT, "404")
    dead = "http://127.0.0.1:9/file.bin"  # nobody listens there
    with pytest.raises(InputError) as caught:
        get(tmp_path, wrong, gone, dead, checksum=SHA256)
    first, *said = str(caught.value).splitlines()
    assert first == f"{tmp_path}/some/file.bin: could not be fetched; put the file there by hand"
    assert said[0].startswith(f"  {wrong}: wrong bytes: ")
    assert said[1] == f"  {gone}: 404 Not Found"
    assert said[2].startswith(f"  {dead}: ") and "refused" in said[2]
    assert not (tmp_path / "some/file.bin").exists()


def test_a_full_disk_is_told_before_anything_is_fetched(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = download.shutil.disk_usage(tmp_path)
    monkeypatch.setattr(download.shutil, "disk_usage", lambda _: usage._replace(free=1000))
    with pytest.raises(InputError, match="1,024,000 bytes; only 1,000 are free"):
        get(tmp_path, server.url("file.bin"))
    assert not list((tmp_path / "some").iterdir())


def packed(**files: bytes) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for name, value in files.items():
            archive.writestr(name, value)
    return content.getvalue()


def test_an_archive_is_unpacked_and_removed(server: Server, tmp_path: Path) -> None:
    content = packed(**{"refcoco/refs(unc).p": b"refs", "../outside": b"no"})
    url = server.url("refcoco.zip", content)
    file = RemoteFile(
        path=Path("refer/refcoco.zip"),
        urls=(url,),
        source="here",
        license="MIT",
        unpack=Path("refer"),
        gives=(Path("refer/refcoco/refs(unc).p"),),
    )
    step.run(Download(contents=(file,)), tmp_path / "data", tmp_path / "record.json")
    step.run(Download(contents=(file,)), tmp_path / "data", tmp_path / "record.json")
    assert len(server.asked) == 1
    found = sorted(path for path in (tmp_path / "data").rglob("*") if path.is_file())
    assert [path.relative_to(tmp_path / "data").as_posix() for path in found] == [
        "refer/outside",
        "refer/refcoco/refs(unc).p",
    ]
    assert json.loads((tmp_path / "record.json").read_text())["contents"][0]["urls"] == [url]


def test_what_is_no_archive_or_another_one_is_told(server: Server, tmp_path: Path) -> None:
    options = {"unpack": Path("some"), "gives": (Path("some/a"),)}
    with pytest.raises(InputError, match=r"no zip file .* it was removed: fetch again"):
        get(tmp_path, server.url("file.bin"), **options)
    with pytest.raises(InputError, match=r"has no .*some/a in it; needed another archive"):
        get(tmp_path, server.url("other.bin", packed(b=b"")), **options)


def test_a_file_without_an_address_is_put_there_by_hand(tmp_path: Path) -> None:
    file = RemoteFile(path=Path("a.pth"), source="https://example.org/drive", license="MIT")
    message = r"a\.pth: no address of its own; put it there by hand, from https://example.org/drive"
    with pytest.raises(InputError, match=message):
        download.fetch(file, tmp_path)
    (tmp_path / "a.pth").touch()
    download.fetch(file, tmp_path)
