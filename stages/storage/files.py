"""Atomic writes: every file is written beside its place and then moved into it."""

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
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # a disk, a quota, a limit on file sizes


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary path beside `path`, moved onto it on success and removed on failure.

    An error because the disk is full (or a quota, or a limit on file sizes), or because the
    temporary path cannot be written, becomes an OSError that says so and names `path`.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = _partial(path)
    try:
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.chmod(0o666 & ~_umask())  # some writers make files that only their owner can read
        temporary.replace(path)
    except Exception as error:
        if (number := _refusal(error, temporary)) is not None:
            raise OSError(number, os.strerror(number), str(path)) from error
        raise
    finally:
        with suppress(OSError):
            temporary.unlink()


@contextmanager
def replacing_folder(folder: Path) -> Iterator[Path]:
    """A temporary folder beside `folder`, moved onto it on success and removed on failure.

    What `folder` held is gone then. Temporary folders of killed processes are removed. A full disk
    and a refused path become an OSError that names `folder`.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    remove_abandoned(folder)
    temporary = _partial(folder)
    earlier = temporary.with_name(f".old{temporary.name}")
    try:
        temporary.mkdir()
        yield temporary
        if folder.exists():
            folder.rename(earlier)
        temporary.rename(folder)
    except OSError as error:
        if (number := _refusal(error, temporary)) is not None:
            raise OSError(number, os.strerror(number), str(folder)) from error
        raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        shutil.rmtree(earlier, ignore_errors=True)


def _partial(path: Path) -> Path:
    """Where this process writes what is to be `path`; the suffix tells many writers the format."""
    return path.with_name(f".{path.stem}.{os.getpid()}.partial{path.suffix}")


def plain_name(text: str, length: int = 40) -> str:
    """A part of a file name: letters, digits and underscores, which every file system accepts."""
    return re.sub(r"[^A-Za-z0-9]+", "_", text)[:length].strip("_")


def _refusal(error: Exception, temporary: Path) -> int | None:
    """The errno of a full disk or of a refused path; None if a write failed for other reasons.

    Some writers raise it, safetensors has it in its message, torch does not report it: then a
    trial write tells.
    """
    if isinstance(error, OSError) and str(error.filename) == str(temporary):
        return error.errno
    match = re.search(r"\(os error (\d+)\)", str(error))
    number = error.errno if isinstance(error, OSError) else int(match[1]) if match else None
    if number is None and temporary.exists():
        try:
            with temporary.open("ab") as more:
                more.write(bytes(PROBE))
                os.fsync(more.fileno())
        except OSError as refused:
            number = refused.errno
    return number if number in FULL else None


def remove_abandoned(path: Path) -> None:
    """Remove partial files and folders of killed writers of this path."""
    for partial in path.parent.glob(f".{escape(path.stem)}.*.partial{escape(path.suffix)}"):
        writer = partial.name.removesuffix(f".partial{path.suffix}").rpartition(".")[2]
        if not writer.isdigit() or _is_alive(int(writer)):
            continue
        if partial.is_dir():
            shutil.rmtree(partial, ignore_errors=True)
        else:
            partial.unlink(missing_ok=True)


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
    """The umask of the process; it can only be read by setting it."""
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
