"""Fetching from a server on this machine that breaks off, lies, or changes its files."""

import hashlib
import io
import json
import random
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save

from stages import fetch as step
from stages.config.settings import Download, RemoteFile
from stages.data import download
from stages.runtime.errors import InputError
from tests.conftest import ROOT
from tests.file_server import CONTENT, Server, date, serving
from tests.unpack_under_attack import NUM_FILES, ROUNDS

SHA256 = f"sha256:{hashlib.sha256(CONTENT).hexdigest()}"


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as running:
        yield running


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
    ended = "http://127.0.0.1:9/file.bin"  # nobody listens there
    with pytest.raises(InputError) as caught:
        get(tmp_path, wrong, gone, ended, checksum=SHA256)
    first, *output = str(caught.value).splitlines()
    assert first == f"{tmp_path}/some/file.bin: could not be fetched; put the file there by hand"
    assert output[0].startswith(f"  {wrong}: wrong bytes: ")
    assert output[1] == f"  {gone}: 404 Not Found"
    assert output[2].startswith(f"  {ended}: ") and "refused" in output[2]
    assert not (tmp_path / "some/file.bin").exists()


def test_a_full_disk_is_told_before_anything_is_fetched(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1000))
    with pytest.raises(InputError, match="1,024,000 bytes; only 1,000 are free"):
        get(tmp_path, server.url("file.bin"))
    assert not list((tmp_path / "some").iterdir())


def packed(deflated: bool = False, **files: bytes) -> bytes:
    content = io.BytesIO()
    method = zipfile.ZIP_DEFLATED if deflated else zipfile.ZIP_STORED
    with zipfile.ZipFile(content, "w", method) as archive:
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
    actual = sorted(path for path in (tmp_path / "data").rglob("*") if path.is_file())
    assert [path.relative_to(tmp_path / "data").as_posix() for path in actual] == [
        "checksums.sha256",
        "refer/outside",
        "refer/refcoco/refs(unc).p",
    ]
    assert json.loads((tmp_path / "record.json").read_text())["contents"][0]["urls"] == [url]


def test_what_is_no_archive_or_another_one_is_told(server: Server, tmp_path: Path) -> None:
    options = {"unpack": Path("some"), "gives": (Path("some/a"),)}
    with pytest.raises(InputError, match=r"could not be fetched.*\n.*no zip file, or a cut one"):
        get(tmp_path, server.url("file.bin"), **options)
    with pytest.raises(InputError, match=r"has no .*some/a in it; needed another archive"):
        get(tmp_path, server.url("other.bin", packed(b=b"")), **options)


VERSIONS = [("ETag", '"one"', '"two"'), ("Last-Modified", date(1_000_000), date(2_000_000))]


@pytest.mark.parametrize("fault", ["", "any range"])
@pytest.mark.parametrize(("header", "first", "second"), VERSIONS)
def test_a_file_that_changes_between_a_cut_and_its_resumption_is_fetched_anew(
    server: Server, tmp_path: Path, header: str, first: str, second: str, fault: str
) -> None:
    url = server.url("file.bin", CONTENT, "break off", "500", "500")
    server.versions["/file.bin"] = (header, first)
    with pytest.raises(InputError, match="could not be fetched"):
        get(tmp_path, url)
    server.url("file.bin", CONTENT[::-1], fault)
    server.versions["/file.bin"] = (header, second)
    assert get(tmp_path, url).read_bytes() == CONTENT[::-1]


def test_the_same_version_is_continued(server: Server, tmp_path: Path) -> None:
    url = server.url("file.bin", CONTENT, "break off")
    server.versions["/file.bin"] = ("ETag", '"one"')
    assert get(tmp_path, url).read_bytes() == CONTENT
    assert server.asked[1] == ("/file.bin", f"bytes={len(CONTENT) // 2}-")


@pytest.mark.parametrize("version", [None, ("ETag", 'W/"one"')])
def test_without_version_and_checksum_nothing_is_continued(
    server: Server, tmp_path: Path, version: tuple[str, str] | None
) -> None:
    url = server.url("file.bin", CONTENT, "break off")
    if version is not None:
        server.versions["/file.bin"] = version
    assert get(tmp_path, url).read_bytes() == CONTENT
    assert server.asked[1] == ("/file.bin", None)


def torch_file(**options: Any) -> bytes:
    content = io.BytesIO()
    torch.save({"weight": torch.zeros(1000)}, content, **options)
    return content.getvalue()


WHOLE = {
    ".zip": packed(a=bytes(1000)),
    ".pth": torch_file(),
    ".old.pth": torch_file(_use_new_zipfile_serialization=False),
    ".safetensors": save({"weight": torch.zeros(1000)}),
    ".txt": b"[PAD]\n[UNK]\nword\n",
}
PAGE = b"<!DOCTYPE html>\n<html><body>Sign in to continue</body></html>" + bytes(2000)


@pytest.mark.parametrize("fault", ["page", "nothing", "cut", "small"])
@pytest.mark.parametrize("kind", WHOLE)
def test_pages_empty_and_cut_files_are_refused_and_the_next_mirror_is_asked(
    server: Server, tmp_path: Path, kind: str, fault: str
) -> None:
    """Sent with status 200 and without a length, where no checksum is known."""
    contents = {"page": PAGE, "nothing": b"", "small": WHOLE[kind][:20], "cut": WHOLE[kind]}
    bad = server.url("bad", contents[fault], "cut" if fault == "cut" else "no length")
    good = server.url("good", WHOLE[kind])
    file = RemoteFile(
        path=Path(f"weights/file{kind}"), source="here", license="MIT", urls=(bad, good)
    )
    download.fetch(file, tmp_path)
    assert (tmp_path / file.path).read_bytes() == WHOLE[kind]
    assert [path for path, _ in server.asked] == ["/bad", "/good"]


def test_the_checksum_of_the_first_fetch_is_kept_and_compared(
    server: Server, tmp_path: Path
) -> None:
    url = server.url("file.bin")
    path = get(tmp_path, url)
    kept = tmp_path / "checksums.sha256"
    assert kept.read_text() == f"{SHA256.removeprefix('sha256:')}  some/file.bin\n"
    content = bytearray(CONTENT)
    content[1000] ^= 1
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"other bytes than when it was fetched; delete it and"):
        get(tmp_path, url)
    path.unlink()
    server.url("file.bin", CONTENT[::-1])
    with pytest.raises(InputError, match=r"wrong bytes: .*; at the first fetch they were .*"):
        get(tmp_path, url)
    kept.unlink()
    assert get(tmp_path, url).read_bytes() == CONTENT[::-1]


def test_a_damaged_archive_is_told_in_one_line_and_fetched_again(
    server: Server, tmp_path: Path
) -> None:
    """Each of 100 flipped bits: it is told, or all files are there as they were."""
    content = packed(**{"a/one": b"1" * 300, "a/two": bytes(range(256))}, deflated=True)
    url = server.url("file.zip", content)
    options = {"unpack": Path("some"), "gives": (Path("some/a/one"),)}
    num_told = 0
    for number, bit in enumerate(random.Random(0).sample(range(8 * len(content)), 100)):
        folder, damaged = tmp_path / str(number), bytearray(content)
        damaged[bit // 8] ^= 1 << bit % 8
        (folder / "some").mkdir(parents=True)
        (folder / "some/file.bin").write_bytes(damaged)
        try:
            get(folder, url, **options)
        except InputError as error:
            assert "\n" not in str(error) and str(folder / "some") in str(error)
            num_told += 1
            get(folder, url, **options)
        assert (folder / "some/a/one").read_bytes() == b"1" * 300
        assert (folder / "some/a/two").read_bytes() == bytes(range(256))
    assert num_told > 30


@pytest.mark.parametrize("attack", ["killed", "doubled"])
def test_an_unpack_that_is_killed_or_doubled_is_whole_or_not_there(
    attack: str, tmp_path: Path
) -> None:
    """At 20 random moments each; see tests/unpack_under_attack.py."""
    command = [sys.executable, "-m", "tests.unpack_under_attack", attack, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr[-3000:]
    rounds = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(rounds) == ROUNDS
    for statuses, left, counts_as_there, at_last in rounds:
        assert attack == "killed" or statuses == [0, 0]
        assert not counts_as_there or left == NUM_FILES
        assert at_last == NUM_FILES


def test_a_file_without_an_address_is_put_there_by_hand(tmp_path: Path) -> None:
    file = RemoteFile(path=Path("a.pth"), source="https://example.org/drive", license="MIT")
    message = r"a\.pth: no address of its own; put it there by hand, from https://example.org/drive"
    with pytest.raises(InputError, match=message):
        download.fetch(file, tmp_path)
    (tmp_path / "a.pth").touch()
    download.fetch(file, tmp_path)
