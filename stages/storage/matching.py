"""Weights and the module that they are loaded into: every name and shape must match."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from stages.runtime.errors import InputError


@dataclass(frozen=True)
class Mismatches:
    """Names of weights that differ from those of a module."""

    missing: list[str]
    surplus: list[str]
    misshapen: list[str]
    text: str  # the first of each, with their shapes

    @property
    def count(self) -> int:
        return len(self.missing) + len(self.surplus) + len(self.misshapen)


def find_mismatches(module: nn.Module, state: Mapping[str, Tensor]) -> Mismatches:
    """How `state` differs from the weights of the module in names and shapes."""
    own = module.state_dict()
    missing = [name for name in own if name not in state]
    surplus = [name for name in state if name not in own]
    misshapen = [name for name in own if name in state and own[name].shape != state[name].shape]
    texts = []
    if missing:
        texts.append(f"{missing[0]} is missing{_more(missing)}")
    if surplus:
        texts.append(f"{surplus[0]} is not in the model{_more(surplus)}")
    if misshapen:
        name = misshapen[0]
        shape, needed = tuple(state[name].shape), tuple(own[name].shape)
        texts.append(f"{name} is {shape} where {needed} is needed{_more(misshapen)}")
    return Mismatches(missing, surplus, misshapen, "; ".join(texts))


def load_exactly(module: nn.Module, state: Mapping[str, Tensor], place: str | Path) -> None:
    """Load `state` if all names and shapes match; other number types are cast.

    Otherwise raises InputError that names the first missing, surplus and misshapen weight, or the
    first that is not finite.
    """
    mismatches = find_mismatches(module, state)
    if mismatches.count:
        kind = type(module).__name__
        raise InputError(f"{place}: {mismatches.text}; needed the weights of this {kind}")
    for name, value in state.items():
        if not torch.isfinite(value).all():
            raise InputError(
                f"{place}: {name} has values that are not finite (nan or infinity); needed weights"
                " of a training that went well"
            )
    module.load_state_dict(dict(state))


def _more(names: list[str]) -> str:
    return f" (and {len(names) - 1} more)" if len(names) > 1 else ""
