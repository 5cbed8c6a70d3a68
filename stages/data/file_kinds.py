"""What a fetched file must look like: servers send error pages and cut files without saying so."""

import zipfile
from collections.abc import Callable
from pathlib import Path

from stages.runtime.file_kinds import HEAD, is_web_page, safetensors_size
from stages.runtime.foreign_errors import first_line
from stages.storage.damage import archive_damage

WEIGHTS = (".pt", ".pth", ".safetensors")
LEAST_WEIGHTS = 1024  # bytes


def find_fault(path: Path, suffix: str) -> str | None:
    """Why a file is not one of this kind, or is cut; None if it looks whole.

    `suffix` is the kind: ".zip", ".pt", ".pth", ".safetensors" or another one, of which only pages
    of HTML and empty files are known.
    """
    size = path.stat().st_size
    if size == 0:
        return "an empty file"
    with path.open("rb") as file:
        head = file.read(HEAD)
    if is_web_page(head):
        return "a page of HTML"
    if suffix in WEIGHTS and size < LEAST_WEIGHTS:
        return f"{size} bytes; needed weights, at least {LEAST_WEIGHTS}"
    check = CHECKS.get(suffix)
    return check(path) if check is not None else None


def shows_its_end(suffix: str) -> bool:
    """Whether a file of this kind that was cut can be told from a whole one."""
    return suffix in CHECKS


def _zip_fault(path: Path) -> str | None:
    # The list of the content is at the end. Checksums are compared when it is unpacked.
    return None if zipfile.is_zipfile(path) else "no zip file, or a cut one"


def _safetensors_fault(path: Path) -> str | None:
    """The header says where the last tensor ends."""
    needed, size = safetensors_size(path), path.stat().st_size
    if needed is None:
        return "no safetensors file, or a cut one"
    return None if size == needed else f"{size:,} bytes; needed {needed:,}"


def _torch_fault(path: Path) -> str | None:
    if zipfile.is_zipfile(path):
        return archive_damage(path)
    import torch  # takes seconds, and is needed for files of this format only

    try:  # the format before torch 1.6 does not say how long it is
        torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # of many kinds
        return f"no weights, or cut ones ({first_line(error)})"
    return None


CHECKS: dict[str, Callable[[Path], str | None]] = {
    ".zip": _zip_fault,
    ".safetensors": _safetensors_fault,
    ".pt": _torch_fault,
    ".pth": _torch_fault,
}
