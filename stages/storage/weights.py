"""Weights that steps write: safetensors, with what they are in the header."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from stages.runtime.errors import InputError
from stages.storage.files import remove_abandoned, replacing


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
