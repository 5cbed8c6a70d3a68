"""Errors of libraries and of the system as one line: the one place that knows how they speak."""

import errno
import os
import pickle
import re
import unicodedata
from pathlib import Path

from stages.runtime.errors import InputError
from stages.runtime.file_kinds import describe_file

CANNOT_WRITE = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
LONGEST = 300  # characters of a foreign message
ESCAPE_CODE = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]")
# What PyTorch's restricted unpickler says of the class or function that it refuses.
BLOCKED = re.compile(r"(?:Unsupported global: |unsupported )GLOBAL (\S+)")
UNPICKLER = re.compile(r"WeightsUnpickler error: (.*)")
# What a file is, where the error itself tells more.
TOLD_WITH_ERROR = ("a PyTorch file", "a Python pickle", "text")
# Libraries whose errors are about a file or its content: the user can act on them.
FILE_LIBRARIES = ("pyarrow", "safetensors", "lmdb", "PIL", "zipfile", "sqlite3")
# These turn text around, so that it shows as another.
DIRECTIONS = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


def printable(text: str) -> str:
    """Text for a terminal or a log: line breaks and tabs stay, other control characters do not.

    They, and halves of characters that no terminal can be sent, are shown by their numbers.
    """
    return "".join(char if _is_printable(char) else _escaped(char) for char in text)


def _is_printable(char: str) -> bool:
    kept = char in "\n\t" or unicodedata.category(char) not in ("Cc", "Cs")
    return kept and char not in DIRECTIONS


def _escaped(char: str) -> str:
    return f"\\x{ord(char):02x}" if ord(char) < 0x100 else f"\\u{ord(char):04x}"


def one_line(text: str) -> str:
    """A foreign message without escape codes and line breaks, and not endless."""
    words = printable(" ".join(ESCAPE_CODE.sub("", text).split()))
    return words if len(words) <= LONGEST else f"{words[:LONGEST]}..."


def first_line(reason: object) -> str:
    """The first line of a message; the kind of an error without one."""
    return next(iter(str(reason).splitlines()), type(reason).__name__)


def explain(error: BaseException) -> str | None:
    """The line for an error that a user can act on; None for a bug."""
    if isinstance(error, InputError):
        return printable(str(error))
    if isinstance(error, OSError) and error.errno is not None:
        if isinstance(error, FileNotFoundError) and error.filename is None:
            return printable(str(error))
        written = error.filename2 if error.errno in CANNOT_WRITE else None  # of a copy
        place = written or error.filename
        place = f"{place}: " if place else ""
        return printable(f"{place}{os.strerror(error.errno)}")
    if isinstance(error, FileNotFoundError):
        return printable(str(error))
    library = type(error).__module__.partition(".")[0]
    if library in FILE_LIBRARIES:
        return f"a file cannot be read or written ({library}: {one_line(str(error))})"
    return None


def unreadable(path: Path, error: BaseException) -> str:
    """Why a file cannot be read: what it is where that explains it, else the error in short."""
    reason = _reason(error)
    if isinstance(error, pickle.UnpicklingError) and "asks for" in reason:  # our own unpickler
        return f"{reason}, which is not loaded"
    blocked = BLOCKED.search(str(error))
    if blocked is not None:
        return f"a pickle with {blocked[1].rstrip('.,')}, which is not loaded"
    kind = describe_file(path)
    if kind is not None and kind not in TOLD_WITH_ERROR:
        return f"it is {kind}"
    return f"{kind}: {reason}" if kind is not None else reason


def _reason(error: BaseException) -> str:
    """What an error says first; of PyTorch's, without its advice to load what is not safe."""
    own = UNPICKLER.search(str(error))
    return one_line(own[1] if own is not None else first_line(error)) or type(error).__name__
