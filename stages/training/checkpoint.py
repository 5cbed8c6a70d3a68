"""Weights (safetensors, with what they are in the header) and the resume state of a training."""

import hashlib
import json
import logging
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from stages.core.errors import InputError
from stages.core.files import remove_abandoned, replacing
from stages.core.section import Section

log = logging.getLogger(__name__)


def save_weights(path: Path, state: Mapping[str, Tensor], about: Mapping[str, str]) -> None:
    """Write tensors; `about` says what they are and is given back by `load_weights`."""
    tensors = {name: value.detach().cpu().contiguous().clone() for name, value in state.items()}
    remove_abandoned(path)
    with replacing(path) as temporary:
        # One entry: the order of several is not the same from one writing to the next.
        save_file(tensors, temporary, metadata={"about": json.dumps(dict(about))})


def load_weights(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors of a file and what it says of them. Raises InputError if it is not whole."""
    with _opened(path) as opened:
        tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
        return tensors, _about(opened)


def load_about(path: Path) -> dict[str, str]:
    """What a file says of its tensors, which are not read. Raises InputError as load_weights."""
    with _opened(path) as opened:
        return _about(opened)


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    try:
        with safe_open(path, framework="pt") as opened:
            yield opened
    except SafetensorError as error:
        raise InputError(f"{path}: not a whole safetensors file ({error}); make it anew") from None


def _about(opened: Any) -> dict[str, str]:
    about: dict[str, str] = json.loads((opened.metadata() or {}).get("about", "{}"))
    return about


def fingerprint(config: Section, files: Iterable[Path], *more: Section) -> str:
    """One text for what a training depends on: its options and the content of its files."""
    digest = hashlib.sha256()
    for section in (config, *more):
        digest.update(section.model_dump_json().encode())
    for path in files:
        with path.open("rb") as opened:
            digest.update(hashlib.file_digest(opened, "sha256").digest())
    return digest.hexdigest()


def save_state(path: Path, state: dict[str, Any]) -> None:
    """Write a resume state: tensors, numbers and containers only."""
    remove_abandoned(path)
    with replacing(path) as temporary:
        torch.save(state, temporary)


def load_state(path: Path, expected: str) -> dict[str, Any] | None:
    """The resume state that fits the fingerprint, or None; says why one is not used."""
    if not path.exists():
        return None
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many kinds; all mean that it cannot be used
        log.warning("%s: not readable (%s); training starts from the beginning", path, error)
        return None
    if state.get("fingerprint") != expected:
        log.warning("%s: of other options or data; training starts from the beginning", path)
        return None
    return state
