"""Comparing one training step with the official one: gradient norms and what the optimizer did."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from tests.parity.golden import Golden

# One thread against two moves the norm of a gradient by up to 0.6 % here (batch statistics of three
# images amplify rounding), and those that are zero but for rounding, such as a bias before a norm,
# by up to 1e-8 of the norm of all gradients.
RELATIVE = 0.02
ABSOLUTE = 1e-7
GPU_NOISE = 10  # times as much: an H200 rounds each partial sum of a convolution on its own


def assert_same_gradients(model: nn.Module, golden: Golden) -> None:
    """The norm of every gradient; none where the official code has none."""
    parameters = dict(model.named_parameters())
    names: list[str] = golden.meta["param_names"]
    assert list(parameters) == names
    theirs = golden.arrays["grad_norm"].astype(np.float64)
    ours = np.array([_norm(parameters[name].grad) for name in names])
    np.testing.assert_array_equal(np.isnan(ours), np.isnan(theirs))
    allowed = RELATIVE * theirs + ABSOLUTE * total(theirs)
    wrong = np.flatnonzero(np.abs(ours - theirs) > allowed)
    assert not len(wrong), [(names[i], ours[i], theirs[i]) for i in wrong[:5]]


def assert_same_step(model: nn.Module, groups: list[dict[str, Any]], golden: Golden) -> None:
    """The change of every parameter by one step of AdamW.

    The first step moves an element by the learning rate in the direction of its gradient, however
    small: elements whose gradient is rounding may go either way. The model is of no use afterwards.
    """
    parameters = dict(model.named_parameters())
    rates = {id(value): group["lr"] for group in groups for value in group["params"]}
    before = {name: value.detach().clone() for name, value in parameters.items()}
    torch.optim.AdamW(groups).step()
    gradients = total(golden.arrays["grad_norm"].astype(np.float64))
    steps = dict(zip(golden.meta["param_names"], golden.arrays["delta_norm"], strict=True))
    for name, parameter in parameters.items():
        step = parameter.detach().sub_(before.pop(name))  # in place: these are the largest tensors
        uncertain = 0
        if parameter.grad is not None:
            size = parameter.grad.abs_()
            noise = ABSOLUTE * max(float(size.max()), gradients / size.numel() ** 0.5)
            noise *= GPU_NOISE if parameter.is_cuda else 1
            rounding = (size > 0) & (size <= noise)
            uncertain = int(rounding.sum())
            step.masked_fill_(rounding, 0)
        low = _norm(step)
        high = np.hypot(low, rates.get(id(parameter), 0.0) * uncertain**0.5)
        assert (1 - RELATIVE) * low <= steps[name] <= (1 + RELATIVE) * high, (name, low, high)


def total(norms: NDArray[np.float64]) -> float:
    """The norm of all gradients together."""
    return float(np.sqrt(np.nansum(norms**2)))


def _norm(values: torch.Tensor | None) -> float:
    return float("nan") if values is None else float(values.double().norm())
