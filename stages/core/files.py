"""Whole files or none: everything is written beside its place and then moved into it."""

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from stages.core.errors import InputError


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary path beside `path`, moved onto it on success and removed on failure."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # Keeps the ending, which tells many writers the format.
    temporary = path.with_name(f".{path.stem}.{os.getpid()}.partial{path.suffix}")
    try:
        yield temporary
        with temporary.open("rb") as written:
            os.fsync(written.fileno())
        temporary.chmod(0o666 & ~_umask())  # some writers make files that only their owner can read
        temporary.replace(path)
    finally:
        with suppress(FileNotFoundError):
            temporary.unlink()


def require_space(folder: Path, needed: int, place: object) -> None:
    """Raises InputError, of `place`, if the disk of a folder has less than `needed` bytes."""
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise InputError(f"{place}: {needed:,} bytes; only {free:,} are free in {folder}")


def _umask() -> int:
    """The bits that new files go without; it can only be read by setting it."""
    mask = os.umask(0)
    os.umask(mask)
    return mask


def write_json(path: Path, value: Any) -> None:
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(value, indent=1, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    """The value in `path`; an InputError that names the file if it is not JSON."""
    try:
        return json.loads(path.read_text())
    except ValueError as error:
        raise InputError(f"{path}: not JSON ({error}); delete it and run again") from error
