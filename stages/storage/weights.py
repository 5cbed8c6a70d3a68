"""Files of weights: those that steps write (safetensors with a header), and published ones.

The header has a checksum of the tensors and of itself, compared when the file is loaded. Files of
earlier versions have none.
"""

import hashlib
import json
import math
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from stages.runtime.errors import InputError
from stages.runtime.file_kinds import SAFETENSORS, describe_file
from stages.runtime.foreign_errors import unreadable
from stages.storage.damage import archive_damage, damaged
from stages.storage.files import remove_abandoned, replacing

WRAPPERS = ("model", "state_dict", "module")  # keys under which training scripts keep the weights
CHECKSUM = "checksum"  # in the header


def save_weights(path: Path, state: Mapping[str, Tensor], about: Mapping[str, str]) -> None:
    """Write tensors, and `about` in the header of the file, with the checksum of both."""
    tensors = {name: value.detach().cpu().contiguous().clone() for name, value in state.items()}
    remove_abandoned(path)
    with replacing(path) as temporary:
        # One entry: several would be written in an order that changes from time to time.
        header = {**about, CHECKSUM: _checksum(tensors, about)}
        save_file(tensors, temporary, metadata={"about": json.dumps(header)})


def load_weights(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors of a file and its header. Raises InputError if the file is cut or damaged."""
    with _opened(path) as opened:
        tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
        about = _about(opened, path)
    checksum = about.pop(CHECKSUM, None)
    if checksum is not None and checksum != _checksum(tensors, about):
        raise damaged(path, "other weights than its checksum says")
    return tensors, about


def load_about(path: Path) -> dict[str, str]:
    """The header of a file alone. Raises InputError if the file is cut; weights are not checked."""
    with _opened(path) as opened:
        about = _about(opened, path)
    about.pop(CHECKSUM, None)
    return about


def count_weights(path: Path) -> int:
    """The numbers in a file, without reading them. Raises InputError if the file is cut."""
    with _opened(path) as opened:
        names = list(opened.keys())
        return sum(math.prod(opened.get_slice(name).get_shape()) for name in names)


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    try:
        with safe_open(path, framework="pt") as opened:
            yield opened
    except SafetensorError as error:
        reason = unreadable(path, error)
        raise InputError(f"{path}: not a whole safetensors file ({reason}); make it anew") from None


def _about(opened: Any, path: Path) -> dict[str, str]:
    try:
        about: dict[str, str] = json.loads((opened.metadata() or {}).get("about", "{}"))
    except ValueError as error:
        raise damaged(path, f"header: {error}") from None
    return about


def _checksum(tensors: Mapping[str, Tensor], about: Mapping[str, str]) -> str:
    """SHA-256 of the header, and of names, types, shapes and bytes of tensors on the CPU."""
    digest = hashlib.sha256(json.dumps(dict(about), sort_keys=True).encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return f"sha256:{digest.hexdigest()}"


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
            return load_weights(path)[0]
        damage = archive_damage(path)
        if damage is not None:
            raise InputError(f"{path}: damaged ({damage}); fetch or copy it again")
        if _is_torchscript(path):
            return _read_torchscript(path)
        with path.open("rb") as file:  # by a path, torch would go by its ending
            content = torch.load(file, map_location="cpu", weights_only=True)
    except InputError:
        raise
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
