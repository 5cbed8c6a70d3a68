"""Fetching files: resumed where a connection broke, checked, and whole when they are in place.

A file that is being fetched lies beside its place as `.<name>.<address>.part`, so that the same
command goes on where it was. Addresses are tried in order; what fails its checksum is thrown away.
"""

import hashlib
import http.client
import logging
import shutil
import sys
import time
import urllib.error
import urllib.request
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from urllib.parse import quote

from tqdm import tqdm

from stages.config.settings import RemoteFile
from stages.runtime.errors import InputError
from stages.storage.files import require_space

CHUNK = 1 << 20  # bytes
ATTEMPTS = 3  # for each address
TIMEOUT = 60  # seconds without a byte
RANGE_NOT_SATISFIABLE = 416

log = logging.getLogger(__name__)


def fetch(file: RemoteFile, folder: Path, pause: float = 2.0) -> None:
    """Get a file, or the content of an archive, into `folder`, unless it is there.

    Raises InputError that tells what each address said and where to put the file by hand.
    """
    path = folder / file.path
    needed = file.gives or (file.path,)
    if not _missing(needed, folder):
        log.info("%s: is there", ", ".join(str(folder / name) for name in needed))
        return
    if not path.exists():
        _download(file, path, pause)
    if file.unpack is not None:
        _unpack(path, folder / file.unpack)
        path.unlink()
    missing = _missing(needed, folder)
    if missing:
        raise InputError(f"{file.urls[0]}: has no {missing[0]} in it; needed another archive")


def _missing(patterns: Sequence[Path], folder: Path) -> list[Path]:
    """What of these is not in the folder."""
    return [folder / one for one in patterns if next(folder.glob(str(one)), None) is None]


def _download(file: RemoteFile, path: Path, pause: float) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    said = []
    for url in file.urls:
        part = path.with_name(f".{path.name}.{hashlib.sha256(url.encode()).hexdigest()[:8]}.part")
        reason = _try(url, part, pause)
        if reason is None and file.checksum is not None:
            found = _checksum(part, file.checksum.partition(":")[0])
            if not found.startswith(file.checksum.partition(":")[2]):
                part.unlink()
                reason = f"wrong bytes: {found}; needed {file.checksum}"
        if reason is None:
            part.replace(path)
            return
        said.append(f"  {url}: {reason}")
        log.warning("%s: %s", url, reason)
    raise InputError(
        "\n".join([f"{path}: could not be fetched; put the file there by hand", *said])
    )


def _try(url: str, part: Path, pause: float) -> str | None:
    """Fetch all of an address into `part`; the reason if that failed for good."""
    reason = None
    for attempt in range(ATTEMPTS):
        if attempt:
            time.sleep(pause * attempt)
        try:
            _continue(url, part)
            return None
        except urllib.error.HTTPError as error:
            reason = f"{error.code} {error.reason}"
            if error.code == RANGE_NOT_SATISFIABLE:
                part.unlink()  # longer than what is there: of another time
            elif error.code < 500:
                return reason
        except (OSError, http.client.HTTPException) as error:
            reason = str(error) or type(error).__name__
    return reason


def _continue(url: str, part: Path) -> None:
    have = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(quote(url, safe=":/?=&%+()"))
    if have:
        request.add_header("Range", f"bytes={have}-")
    with urllib.request.urlopen(request, timeout=TIMEOUT) as response:
        if have and response.status != http.client.PARTIAL_CONTENT:
            have = 0  # a server that always begins at the start
        length = response.headers.get("Content-Length")
        total = have + int(length) if length else None
        require_space(part.parent, (total or have) - have, url)
        bar = tqdm(
            desc=part.name.split(".")[1],
            initial=have,
            total=total,
            unit="B",
            unit_scale=True,
            disable=None,
            file=sys.stderr,
        )
        with bar, part.open("ab" if have else "wb") as file:
            while chunk := response.read(CHUNK):
                file.write(chunk)
                bar.update(len(chunk))
    got = part.stat().st_size
    if total is not None and got < total:
        raise ConnectionError(f"ended after {got:,} of {total:,} bytes")


def _checksum(path: Path, method: str) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, method).hexdigest()


def _unpack(archive: Path, folder: Path) -> None:
    """What is in a zip file, moved into `folder` once all of it is unpacked."""
    staging = folder / f".{archive.name}.unpacking"
    shutil.rmtree(staging, ignore_errors=True)
    staging.mkdir(parents=True)
    try:
        with zipfile.ZipFile(archive) as opened:
            require_space(folder, sum(info.file_size for info in opened.infolist()), archive)
            for name in tqdm(opened.namelist(), desc=archive.name, disable=None):
                opened.extract(name, staging)  # never outside of the folder
        for source in _files(staging):
            target = folder / source.relative_to(staging)
            target.parent.mkdir(parents=True, exist_ok=True)
            source.replace(target)
    except zipfile.BadZipFile as error:
        archive.unlink()
        raise InputError(f"{archive}: no zip file ({error}); it was removed: fetch again") from None
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _files(folder: Path) -> Iterator[Path]:
    yield from (path for path in sorted(folder.rglob("*")) if path.is_file())
