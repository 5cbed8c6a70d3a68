"""What a file is by its first bytes, for the message about a file that holds something else."""

import json
import lzma
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

# What zipfile raises of a damaged archive, beside its own error.
ZIP_ERRORS = (
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    struct.error,
    EOFError,
    RuntimeError,
    ValueError,
)
HEAD = 512  # bytes that are looked at
# The first bytes of formats that are met where weights, annotations or tables are needed.
SIGNATURES: dict[bytes, str] = {
    b"version https://git-lfs": "a Git LFS pointer, not the file itself: run git lfs pull",
    b"\x1f\x8b": "compressed by gzip: unpack it first",
    b"BZh": "compressed by bzip2: unpack it first",
    b"\xfd7zXZ\x00": "compressed by xz: unpack it first",
    b"7z\xbc\xaf\x27\x1c": "a 7z archive: unpack it first",
    b"Rar!": "a rar archive: unpack it first",
    b"%PDF": "a PDF",
    b"\x89PNG": "a PNG image",
    b"\xff\xd8\xff": "a JPEG image",
    b"PAR1": "a Parquet table",
    b"\x89HDF": "an HDF5 file",
    b"SQLite format 3": "an SQLite file",
    b"\xff\xfe": "text in UTF-16: save it as UTF-8",
    b"\xfe\xff": "text in UTF-16: save it as UTF-8",
}
WEB_PAGE = (b"<!doctype", b"<html", b"<head", b"<?xml")
SAFETENSORS = "a safetensors file"
LARGEST_HEADER = 100_000_000  # bytes, the limit of safetensors itself


def describe_file(path: Path) -> str | None:
    """What a file is, as the end of "it is ..."; None if its first bytes do not tell.

    A truncated zip archive (a PyTorch file too) or safetensors file is named as that.
    """
    try:
        size = path.stat().st_size
        if path.is_dir():
            return "a folder"
        with path.open("rb") as file:
            head = file.read(HEAD)
    except OSError:
        return None
    if not head:
        return "an empty file"
    if not head.strip(b"\0"):
        return "a file of zeros, as a download that was cut off leaves behind"
    if is_web_page(head):
        return "a web page (HTML), as servers send in place of a file: fetch it again"
    for signature, signed in SIGNATURES.items():
        if head.startswith(signature):
            return signed
    if head[257:262] == b"ustar":
        return "a tar archive: unpack it first"
    return next((kind for look in LOOKS if (kind := look(path, head, size)) is not None), None)


def is_web_page(head: bytes) -> bool:
    """Whether a file begins as a page of HTML or XML does."""
    return head.lstrip(b"\xef\xbb\xbf \t\r\n").lower().startswith(WEB_PAGE)


def safetensors_size(path: Path) -> int | None:
    """The size of a whole safetensors file, as its header has it; None for no such header."""
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        try:
            header = json.loads(file.read(min(length, path.stat().st_size)))
            ends = [
                value["data_offsets"][1] for key, value in header.items() if key != "__metadata__"
            ]
            return 8 + length + int(max(ends, default=0))
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
            return None


def _zip_archive(path: Path, head: bytes, _size: int) -> str | None:
    if not head.startswith(b"PK"):
        return None
    if not zipfile.is_zipfile(path):
        return "a zip archive (a PyTorch file?) that is truncated: copy or fetch it again"
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except ZIP_ERRORS:
        return "a zip archive (a PyTorch file?) that is damaged: copy or fetch it again"
    if any(name.startswith("xl/") for name in names):
        return "an Excel workbook: save it as CSV"
    if any(name.endswith("data.pkl") for name in names):
        return "a PyTorch file"
    return "a zip archive: unpack it first"


def _safetensors(path: Path, head: bytes, size: int) -> str | None:
    """Its length is told by its header: eight bytes of length, then JSON."""
    length = int.from_bytes(head[:8], "little")
    if len(head) < 10 or head[8:10] not in (b'{"', b"{}") or not 2 <= length <= LARGEST_HEADER:
        return None
    needed = 8 + length
    if needed <= size:
        needed = safetensors_size(path) or 0
    if size < needed:
        return (
            f"{SAFETENSORS} that is truncated ({size:,} of {needed:,} bytes): copy or fetch it"
            " again"
        )
    return SAFETENSORS


def _pickle(_path: Path, head: bytes, _size: int) -> str | None:
    is_pickle = head[0] == 0x80 and len(head) > 1 and 2 <= head[1] <= 5
    return "a Python pickle" if is_pickle else None


def _text(_path: Path, head: bytes, _size: int) -> str | None:
    """Text is only named where it is none of the above and can be printed."""
    try:
        text = head.decode()
    except UnicodeDecodeError:
        return None
    return "text" if all(char.isprintable() or char.isspace() for char in text) else None


LOOKS: tuple[Callable[[Path, bytes, int], str | None], ...] = (
    _zip_archive,
    _safetensors,
    _pickle,
    _text,
)
