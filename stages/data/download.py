"""Download files: resumed after a broken connection, checked, and moved into place when complete.

A partial download is kept beside its place as `.<name>.<hash of the URL>.part`, so that the same
command resumes it. URLs are tried in order; a file with a wrong checksum is deleted.
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

    Raises InputError with the reason of each URL and the place to put the file by hand.
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
        raise InputError(f"{file.path}: has no {missing[0]} in it; needed another archive")


def _missing(patterns: Sequence[Path], folder: Path) -> list[Path]:
    """The patterns that no file of the folder matches."""
    return [folder / pattern for pattern in patterns if not any(folder.glob(str(pattern)))]


def _download(file: RemoteFile, path: Path, pause: float) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if not file.urls:
        raise InputError(f"{path}: no address of its own; put it there by hand, from {file.source}")
    reasons = []
    for url in file.urls:
        partial = path.with_name(
            f".{path.name}.{hashlib.sha256(url.encode()).hexdigest()[:8]}.part"
        )
        reason = _try(url, partial, pause)
        if reason is None and file.checksum is not None:
            checksum = _checksum(partial, file.checksum.partition(":")[0])
            if not checksum.startswith(file.checksum.partition(":")[2]):
                partial.unlink()
                reason = f"wrong bytes: {checksum}; needed {file.checksum}"
        if reason is None:
            partial.replace(path)
            return
        reasons.append(f"  {url}: {reason}")
        log.warning("%s: %s", url, reason)
    raise InputError(
        "\n".join([f"{path}: could not be fetched; put the file there by hand", *reasons])
    )


def _try(url: str, partial: Path, pause: float) -> str | None:
    """Fetch a whole URL into `partial`; returns the reason if that failed for good."""
    reason = None
    for attempt in range(ATTEMPTS):
        if attempt:
            time.sleep(pause * attempt)
        try:
            _continue(url, partial)
            return None
        except urllib.error.HTTPError as error:
            reason = f"{error.code} {error.reason}"
            if error.code == RANGE_NOT_SATISFIABLE:
                partial.unlink()  # longer than the file on the server: of an older version
            elif error.code < 500:
                return reason
        except (OSError, http.client.HTTPException) as error:
            reason = str(error) or type(error).__name__
    return reason


def _continue(url: str, partial: Path) -> None:
    size = partial.stat().st_size if partial.exists() else 0
    request = urllib.request.Request(quote(url, safe=":/?=&%+()"))
    if size:
        request.add_header("Range", f"bytes={size}-")
    with urllib.request.urlopen(request, timeout=TIMEOUT) as response:
        if size and response.status != http.client.PARTIAL_CONTENT:
            size = 0  # this server does not resume
        length = response.headers.get("Content-Length")
        total = size + int(length) if length else None
        require_space(partial.parent, (total or size) - size, url)
        bar = tqdm(
            desc=partial.name.split(".")[1],
            initial=size,
            total=total,
            unit="B",
            unit_scale=True,
            disable=None,
            file=sys.stderr,
        )
        with bar, partial.open("ab" if size else "wb") as file:
            while chunk := response.read(CHUNK):
                file.write(chunk)
                bar.update(len(chunk))
    got = partial.stat().st_size
    if total is not None and got < total:
        raise ConnectionError(f"ended after {got:,} of {total:,} bytes")


def _checksum(path: Path, method: str) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, method).hexdigest()


def _unpack(archive: Path, folder: Path) -> None:
    """Unpack a zip file, and move its files into `folder` once all are unpacked."""
    staging = folder / f".{archive.name}.unpacking"
    shutil.rmtree(staging, ignore_errors=True)
    staging.mkdir(parents=True)
    try:
        with zipfile.ZipFile(archive) as opened:
            require_space(folder, sum(info.file_size for info in opened.infolist()), archive)
            for name in tqdm(opened.namelist(), desc=archive.name, disable=None):
                opened.extract(name, staging)  # extract never writes outside of the folder
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
