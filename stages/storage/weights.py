"""Files of weights: those that steps write (safetensors with a header), and published ones."""

import json
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from stages.runtime.errors import InputError
from stages.runtime.file_kinds import SAFETENSORS, describe_file
from stages.runtime.foreign_errors import unreadable
from stages.storage.files import remove_abandoned, replacing

WRAPPERS = ("model", "state_dict", "module")  # keys under which training scripts keep the weights


def save_weights(path: Path, state: Mapping[str, Tensor], about: Mapping[str, str]) -> None:
    """Write tensors, and `about` in the header of the file."""
    tensors = {name: value.detach().cpu().contiguous().clone() for name, value in state.items()}
    remove_abandoned(path)
    with replacing(path) as temporary:
        # One entry: several would be written in an order that changes from time to time.
        save_file(tensors, temporary, metadata={"about": json.dumps(dict(about))})


def load_weights(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors of a file and its header. Raises InputError if the file is not whole."""
    with _opened(path) as opened:
        tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
        return tensors, _about(opened)


def load_about(path: Path) -> dict[str, str]:
    """The header of a file alone. Raises InputError if the file is not whole."""
    with _opened(path) as opened:
        return _about(opened)


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    try:
        with safe_open(path, framework="pt") as opened:
            yield opened
    except SafetensorError as error:
        reason = unreadable(path, error)
        raise InputError(f"{path}: not a whole safetensors file ({reason}); make it anew") from None


def _about(opened: Any) -> dict[str, str]:
    about: dict[str, str] = json.loads((opened.metadata() or {}).get("about", "{}"))
    return about


def read_published(path: Path) -> dict[str, Tensor]:
    """The tensors of a published file by name, on the CPU, without wrappers of training scripts.

    The file is safetensors, a PyTorch file (nothing but tensors is unpickled) or a TorchScript
    archive, the format of OpenAI's CLIP. Raises InputError for a missing file and for any other
    content.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such file; needed a file of weights (see data/README.md)")
    try:
        if (describe_file(path) or "").startswith(SAFETENSORS):  # whatever its name ends in
            return load_file(path)
        if _is_torchscript(path):
            return _read_torchscript(path)
        with path.open("rb") as file:  # by a path, torch would go by its ending
            content = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # many kinds, all of which mean that the file holds something else
        reason = unreadable(path, error)
        raise InputError(f"{path}: not weights ({reason}); needed tensors only") from error
    return _unwrap(content, path)


def _read_torchscript(path: Path) -> dict[str, Tensor]:
    with warnings.catch_warnings():
        # torch deprecates TorchScript, but OpenAI's CLIP is published in no other form.
        warnings.simplefilter("ignore")
        return dict(torch.jit.load(path, map_location="cpu").state_dict())


def _is_torchscript(path: Path) -> bool:
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any(name.endswith("/constants.pkl") for name in archive.namelist())


def _unwrap(content: object, path: Path) -> dict[str, Tensor]:
    for wrapper in WRAPPERS:
        if isinstance(content, Mapping) and isinstance(content.get(wrapper), Mapping):
            content = content[wrapper]
    if not isinstance(content, Mapping) or not all(isinstance(v, Tensor) for v in content.values()):
        raise InputError(f"{path}: holds no table of weights; needed tensors by name")
    state = {str(name): tensor for name, tensor in content.items()}
    if state and all(name.startswith("module.") for name in state):  # saved through DataParallel
        state = {name.removeprefix("module."): tensor for name, tensor in state.items()}
    return state
