"""Whole files or none: everything is written beside its place and then moved into it."""

import errno
import json
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from glob import escape
from pathlib import Path
from typing import Any

from stages.runtime.errors import InputError

PROBE = 1 << 20  # bytes: more than what a full disk has left


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary path beside `path`, moved onto it on success and removed on failure.

    What a writer raises because the disk is full (or a quota, or a limit on file sizes) becomes an
    OSError that says so and names `path`.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # Keeps the ending, which tells many writers the format.
    temporary = path.with_name(f".{path.stem}.{os.getpid()}.partial{path.suffix}")
    try:
        yield temporary
        with temporary.open("rb") as written:
            os.fsync(written.fileno())
        temporary.chmod(0o666 & ~_umask())  # some writers make files that only their owner can read
        temporary.replace(path)
    except Exception as error:
        if (number := _refusal(error, temporary)) is not None:
            raise OSError(number, os.strerror(number), str(path)) from error
        raise
    finally:
        with suppress(FileNotFoundError):
            temporary.unlink()


def _refusal(error: Exception, temporary: Path) -> int | None:
    """Why the disk takes no more, as a number of errno; None if a write failed for other reasons.

    Some writers raise it, safetensors tells it in words, torch does not tell it at all: then the
    file system is asked.
    """
    told = re.search(r"\(os error (\d+)\)", str(error))
    number = error.errno if isinstance(error, OSError) else int(told[1]) if told else None
    if number is None and temporary.exists():
        try:
            with temporary.open("ab") as more:
                more.write(bytes(PROBE))
                os.fsync(more.fileno())
        except OSError as refused:
            number = refused.errno
    return number if number in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG) else None


def remove_abandoned(path: Path) -> None:
    """Remove what writers of this file left that were killed: of large files it adds up."""
    for left in path.parent.glob(f".{escape(path.stem)}.*.partial{escape(path.suffix)}"):
        writer = left.name.removesuffix(f".partial{path.suffix}").rpartition(".")[2]
        if writer.isdigit() and not _is_alive(int(writer)):
            left.unlink(missing_ok=True)


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


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
