"""Files by their content: digests that are remembered, so that a file is read once.

A file whose size and modification time are as remembered is not read again; one that was touched is
read, and has the same digest as before. Images are too many to be read: they count by a listing of
their names, sizes and modification times.
"""

import hashlib
import json
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from stages.config.recipes import DIGEST_LENGTH

LISTING = "listing.json"  # of the images of a data set, beside its samples


class Contents:
    """Digests of files, remembered in a JSON file from one run to the next.

    The jobs of a run take them as the run found them (`is_frozen`): nothing is read anew, and a
    file that changes meanwhile does not change what the jobs make.
    """

    def __init__(self, record: Path, is_frozen: bool = False) -> None:
        self.record, self.is_frozen = record, is_frozen
        self._known: dict[str, list[Any]] = {}  # path: size, modification time, digest
        if record.is_file():
            try:
                self._known = json.loads(record.read_text())
            except ValueError:  # a record is only a memory
                self._known = {}

    def of_file(self, path: Path) -> str:
        """The digest of a file's bytes; `missing` for one that is not there."""
        key = str(path)
        if self.is_frozen and key in self._known:
            return str(self._known[key][2])
        try:
            status = path.stat()
        except OSError:
            return "missing"
        stamp = [status.st_size, status.st_mtime_ns]
        if self._known.get(key, [])[:2] != stamp:
            with path.open("rb") as file:
                content = hashlib.file_digest(file, "sha256").hexdigest()[:DIGEST_LENGTH]
            self._remember(key, [*stamp, content])
        return str(self._known[key][2])

    def of_images(self, listing: Path) -> tuple[str, str] | None:
        """The digests of a listing as it was written, and of the same images now.

        None where there is no listing yet.
        """
        if not listing.is_file():
            return None
        listed = json.loads(listing.read_text())
        key = str(listing)
        if self.is_frozen and key in self._known:
            return str(listed["digest"]), str(self._known[key][2])
        now = digest_of_images(listed["files"])
        if self._known.get(key, [None] * 3)[2] != now:
            self._remember(key, [0, 0, now])
        return str(listed["digest"]), now

    def _remember(self, key: str, entry: list[Any]) -> None:
        self._known[key] = entry
        if self.is_frozen:
            return
        try:
            self.record.parent.mkdir(parents=True, exist_ok=True)
            temporary = self.record.with_name(f".{self.record.name}.{os.getpid()}")
            temporary.write_text(json.dumps(self._known, indent=1))
            temporary.replace(self.record)
        except OSError:  # a folder that cannot be written to: the next run reads the files again
            return


def digest_of_images(files: Sequence[str]) -> str:
    """The digest of the names, sizes and modification times of images."""
    digest = hashlib.sha256()
    for name in files:
        try:
            status = os.stat(name)  # noqa: PTH116 - twice as fast, and they are many
            digest.update(f"{name}\0{status.st_size}\0{status.st_mtime_ns}\n".encode())
        except OSError:
            digest.update(f"{name}\0missing\n".encode(errors="surrogateescape"))
    return digest.hexdigest()[:DIGEST_LENGTH]


def listing_of(files: Iterable[str]) -> dict[str, Any]:
    """What `prepare` writes of its images: their names, and the digest of the listing."""
    names = list(files)
    return {"digest": digest_of_images(names), "files": names}
