"""Checksums of fetched files, learned at the first fetch: `checksums.sha256` in the data folder.

The format is that of sha256sum: `cd data; sha256sum --check --ignore-missing checksums.sha256`.
"""

import hashlib
from pathlib import Path

from stages.storage.files import replacing
from stages.storage.locks import locked

NAME = "checksums.sha256"


def file_checksum(path: Path, method: str = "sha256") -> str:
    """The checksum of a file, as hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, method).hexdigest()


def known_checksum(folder: Path, name: Path) -> str | None:
    """The SHA-256 of a file of the data folder at its first fetch; None if it is not known."""
    return _read(folder / NAME).get(name.as_posix())


def learn_checksum(folder: Path, name: Path, checksum: str) -> None:
    """Keep the SHA-256 of a fetched file; those of other files stay."""
    path = folder / NAME
    with locked(folder / f".{NAME}.lock"):
        checksums = {**_read(path), name.as_posix(): checksum}
        with replacing(path) as temporary:
            lines = [f"{value}  {key}\n" for key, value in sorted(checksums.items())]
            temporary.write_text("".join(lines))


def _read(path: Path) -> dict[str, str]:
    lines = path.read_text().splitlines() if path.exists() else []
    return {name: checksum for checksum, _, name in (line.partition("  ") for line in lines)}
