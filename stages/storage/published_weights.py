"""Reading weights that others published, and loading them only where they fit exactly.

Files are safetensors, PyTorch files (never unpickled beyond tensors) or TorchScript archives, the
form in which OpenAI published CLIP.
"""

import warnings
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import safetensors.torch
import torch
from torch import Tensor, nn

from stages.runtime.errors import InputError

WRAPPERS = ("model", "state_dict", "module")  # keys under which training scripts keep the weights


def read_weights(path: Path) -> dict[str, Tensor]:
    """Tensors by name, on the CPU, without the wrapping of the training script that saved them.

    Raises InputError for a file that is missing or holds anything else than weights.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such file; needed a file of weights (see data/README.md)")
    try:
        if path.suffix == ".safetensors":
            return safetensors.torch.load_file(path)
        if _is_torchscript(path):
            return _read_torchscript(path)
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # many kinds, all of which mean that the file holds something else
        reason = next(iter(str(error).splitlines()), type(error).__name__)
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


@dataclass(frozen=True)
class Misfits:
    """Where weights differ from those of a module, by name."""

    missing: list[str]
    surplus: list[str]
    misshapen: list[str]
    text: str  # the first of each, with their shapes

    @property
    def count(self) -> int:
        return len(self.missing) + len(self.surplus) + len(self.misshapen)


def find_misfits(module: nn.Module, state: Mapping[str, Tensor]) -> Misfits:
    """How `state` differs in names and shapes from what the module has."""
    own = module.state_dict()
    missing = [name for name in own if name not in state]
    surplus = [name for name in state if name not in own]
    misshapen = [name for name in own if name in state and own[name].shape != state[name].shape]
    faults = []
    if missing:
        faults.append(f"{missing[0]} is missing{_more(missing)}")
    if surplus:
        faults.append(f"{surplus[0]} is not in the model{_more(surplus)}")
    if misshapen:
        name = misshapen[0]
        found, needed = tuple(state[name].shape), tuple(own[name].shape)
        faults.append(f"{name} is {found} where {needed} is needed{_more(misshapen)}")
    return Misfits(missing, surplus, misshapen, "; ".join(faults))


def load_exactly(module: nn.Module, state: Mapping[str, Tensor], place: str | Path) -> None:
    """Load `state` where every name and shape is the module's own; other number types are cast.

    Raises InputError, naming the first missing, surplus and misshapen weight, otherwise.
    """
    misfits = find_misfits(module, state)
    if misfits.count:
        kind = type(module).__name__
        raise InputError(f"{place}: {misfits.text}; needed the weights of this {kind}")
    module.load_state_dict(dict(state))


def _more(names: list[str]) -> str:
    return f" (and {len(names) - 1} more)" if len(names) > 1 else ""
