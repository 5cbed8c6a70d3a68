"""The resume state of a training."""

import hashlib
import logging
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch

from stages.config.section import Section
from stages.runtime.foreign_errors import first_line
from stages.storage.damage import archive_damage
from stages.storage.files import remove_abandoned, replacing

log = logging.getLogger(__name__)


def fingerprint(config: Section, files: Iterable[Path], *more: Section) -> str:
    """A hash of the options and the files that a training depends on."""
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
    """The resume state with this fingerprint, or None; logs why a file is not used."""
    if not path.exists():
        return None
    damage = archive_damage(path)
    if damage is not None:
        log.warning("%s: damaged (%s); training starts from the beginning", path, damage)
        return None
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many kinds; all mean that it cannot be used
        reason = first_line(error)
        log.warning("%s: not readable (%s); training starts from the beginning", path, reason)
        return None
    if state.get("fingerprint") != expected:
        log.warning("%s: of other options or data; training starts from the beginning", path)
        return None
    return state
