"""Download files: resumed after a broken connection, checked, and moved into place when complete.

A partial download is kept beside its place as `.<name>.<hash of the URL>.part`, so that the same
command resumes it, and beside that which version of the file it is of (`.version`): it is continued
only if the server still has that version. URLs are tried in order; a file with a wrong checksum, or
one that is not of its kind, is deleted. Checksums that nobody publishes are learned at the first
fetch (stages/storage/checksums.py).
"""

import hashlib
import http.client
import logging
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

from tqdm import tqdm

from stages.config.settings import RemoteFile
from stages.data.file_kinds import find_fault, shows_its_end
from stages.data.unpack import unpack
from stages.runtime.errors import InputError
from stages.storage.checksums import NAME, file_checksum, known_checksum, learn_checksum
from stages.storage.files import require_space
from stages.storage.locks import locked

CHUNK = 1 << 20  # bytes
ATTEMPTS = 3  # for each address
TIMEOUT = 60  # seconds without a byte
RANGE_NOT_SATISFIABLE = 416

log = logging.getLogger(__name__)


def fetch(file: RemoteFile, folder: Path, pause: float = 2.0) -> None:
    """Get a file, or the content of an archive, into `folder`, unless it is there.

    Of several processes one fetches and the others wait for it. Raises InputError with the reason
    of each URL and the place to put the file by hand.
    """
    path = folder / file.path
    if not is_there(file, folder):
        waiting = f"{path}: another process fetches it; waits"
        with locked(path.with_name(f".{path.name}.lock"), waiting):
            if not is_there(file, folder):  # the other process may have fetched it
                _fetch(file, folder, pause)
                return
    _compare(file, folder)
    log.info("%s: is there", ", ".join(str(folder / name) for name in _needed(file)))


def _fetch(file: RemoteFile, folder: Path, pause: float) -> None:
    path = folder / file.path
    if not path.exists():
        _download(file, folder, pause)
    if file.unpack is not None:
        unpack(path, folder / file.unpack)
    missing = _missing(_needed(file), folder)
    if missing:
        raise InputError(f"{file.path}: has no {missing[0]} in it; needed another archive")


def is_there(file: RemoteFile, folder: Path) -> bool:
    """Whether a file, or the whole content of its archive, is in `folder`.

    An archive is removed once it is unpacked: one that is there is not, or not in full.
    """
    is_packed = file.unpack is not None and (folder / file.path).exists()
    return not is_packed and not _missing(_needed(file), folder)


def _needed(file: RemoteFile) -> Sequence[Path]:
    return file.gives or (file.path,)


def _missing(patterns: Sequence[Path], folder: Path) -> list[Path]:
    """The patterns that no file of the folder matches."""
    return [folder / pattern for pattern in patterns if not any(folder.glob(str(pattern)))]


def _compare(file: RemoteFile, folder: Path) -> None:
    """Compare a file that was fetched with its checksum of then; one put by hand has none."""
    path, known = folder / file.path, known_checksum(folder, file.path)
    if known is not None and path.is_file() and file_checksum(path) != known:
        raise InputError(
            f"{path}: other bytes than when it was fetched; delete it and fetch it again, or, if"
            f" you replaced it, delete its line in {folder / NAME}"
        )


def _download(file: RemoteFile, folder: Path, pause: float) -> None:
    path = folder / file.path
    path.parent.mkdir(parents=True, exist_ok=True)
    if not file.urls:
        raise InputError(f"{path}: no address of its own; put it there by hand, from {file.source}")
    reasons = []
    for url in file.urls:
        partial = PartialFile(path, url)
        reason = partial.try_to_complete(file.checksum is not None, pause)
        if reason is None:
            reason = _find_fault(file, partial, folder)
            if reason is None:
                partial.move_to(path)
                return
            partial.remove()
        reasons.append(f"  {url}: {reason}")
        log.warning("%s: %s", url, reason)
    raise InputError(
        "\n".join([f"{path}: could not be fetched; put the file there by hand", *reasons])
    )


def _find_fault(file: RemoteFile, partial: "PartialFile", folder: Path) -> str | None:
    """Why a fetched file is not the wanted one; if it is, its checksum is learned."""
    suffix = ".zip" if file.unpack is not None else file.path.suffix
    fault = find_fault(partial.path, suffix)
    if fault is not None:
        return fault
    if file.checksum is None and partial.length is None and not shows_its_end(suffix):
        return "the server does not say how long it is; needed a checksum in the configuration"
    checksum, known = file_checksum(partial.path), known_checksum(folder, file.path)
    if file.checksum is not None:
        method, _, digits = file.checksum.partition(":")
        published = checksum if method == "sha256" else file_checksum(partial.path, method)
        if not published.startswith(digits):
            return f"wrong bytes: {published}; needed {file.checksum}"
    if known is None:
        learn_checksum(folder, file.path, checksum)
    elif file.checksum is None and checksum != known:
        remedy = f"to take a new version, delete its line in {folder / NAME}"
        return f"wrong bytes: {checksum}; at the first fetch they were {known}; {remedy}"
    return None


class PartialFile:
    """What was fetched of a URL so far, and of which version of it."""

    def __init__(self, path: Path, url: str) -> None:
        name = hashlib.sha256(url.encode()).hexdigest()[:8]
        self.url, self.title = url, path.name
        self.path = path.with_name(f".{path.name}.{name}.part")
        self.version_path = path.with_name(f".{path.name}.{name}.version")
        self.length: int | None = None  # of the whole file, as the server says

    def try_to_complete(self, has_checksum: bool, pause: float) -> str | None:
        """Fetch what is missing; returns the reason if that failed for good.

        Without a checksum, a file of which the version is not known is fetched from the beginning.
        """
        reason = None
        for attempt in range(ATTEMPTS):
            if attempt:
                time.sleep(pause * attempt)
            try:
                self._continue(has_checksum)
                return None
            except urllib.error.HTTPError as error:
                reason = f"{error.code} {error.reason}"
                if error.code == RANGE_NOT_SATISFIABLE:
                    self.remove()  # longer than the file on the server: of an older version
                elif error.code < 500:
                    return reason
            except (OSError, http.client.HTTPException) as error:
                reason = str(error) or type(error).__name__
        return reason

    def move_to(self, path: Path) -> None:
        self.path.replace(path)
        self.version_path.unlink(missing_ok=True)

    def remove(self) -> None:
        self.path.unlink(missing_ok=True)
        self.version_path.unlink(missing_ok=True)

    def _continue(self, has_checksum: bool) -> None:
        size = self.path.stat().st_size if self.path.exists() else 0
        version = self.version_path.read_text() if self.version_path.exists() else ""
        if not version and not has_checksum:
            size = 0
        request = urllib.request.Request(quote(self.url, safe=":/?=&%+()"))
        if size:
            request.add_header("Range", f"bytes={size}-")
            if version:
                request.add_header("If-Range", version)
        with urllib.request.urlopen(request, timeout=TIMEOUT) as response:
            if response.status == http.client.PARTIAL_CONTENT:
                self._require_same(response.headers, version, size)
            else:
                size = 0  # another version, or a server that does not resume
                self.remove()
            length = response.headers.get("Content-Length")
            self.length = size + int(length) if length else None
            require_space(self.path.parent, (self.length or size) - size, self.url)
            if not size:  # before the first byte: a part is never beside another's version
                self.version_path.write_text(_version(response.headers))
            self._write(response, size)
        got = self.path.stat().st_size
        if self.length is not None and got < self.length:
            raise ConnectionError(f"ended after {got:,} of {self.length:,} bytes")

    def _write(self, response: http.client.HTTPResponse, size: int) -> None:
        bar = tqdm(
            desc=self.title,
            initial=size,
            total=self.length,
            unit="B",
            unit_scale=True,
            disable=None,
            file=sys.stderr,
        )
        with bar, self.path.open("ab" if size else "wb") as file:
            while chunk := response.read(CHUNK):
                file.write(chunk)
                bar.update(len(chunk))

    def _require_same(self, headers: http.client.HTTPMessage, version: str, size: int) -> None:
        """Not every server heeds If-Range, or begins where it is asked to."""
        place = headers.get("Content-Range", "")
        is_other = version and _version(headers) not in (version, "")
        if is_other or (place and not place.startswith(f"bytes {size}-")):
            self.remove()
            raise ConnectionError("the file has changed on the server; fetched from the beginning")


def _version(headers: http.client.HTTPMessage) -> str:
    """What tells versions of a file apart, for If-Range: a strong ETag, or the date of change."""
    tag = headers.get("ETag", "")
    if tag and not tag.startswith("W/"):
        return str(tag)
    return str(headers.get("Last-Modified", ""))
