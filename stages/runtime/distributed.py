"""The processes of one training: which of them this is, and what they tell each other.

torchrun starts one for each GPU (stages/runtime/launch.py). What is asked here has an answer for
a single process too, so that models and losses are written once.
"""

import ctypes
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

DIE_WITH_PARENT = 1  # PR_SET_PDEATHSIG of Linux's prctl


def process_count() -> int:
    """How many processes train together."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def process_rank() -> int:
    """The number of this one, from 0; the first one writes files and messages."""
    return int(os.environ.get("RANK", "0"))


def is_first_process() -> bool:
    return process_rank() == 0


@contextmanager
def joined(device: torch.device) -> Iterator[None]:
    """Connected to the other processes, if there are any and they are not yet."""
    if process_count() == 1 or dist.is_initialized():
        yield
        return
    # torchrun may be killed: nothing may train on without it.
    ctypes.CDLL(None).prctl(DIE_WITH_PARENT, signal.SIGKILL)
    gpu = device.type == "cuda"
    dist.init_process_group(
        "cpu:gloo,cuda:nccl" if gpu else "gloo", device_id=device if gpu else None
    )
    try:
        yield
    finally:
        dist.destroy_process_group()


def total(value: Tensor) -> Tensor:
    """The sum of a value over all processes, without gradient."""
    value = value.detach()
    if dist.is_initialized():
        value = value.clone()
        dist.all_reduce(value)
    return value


def mean_over_all(values: Tensor, weights: Tensor, items: int, floor: float = 0.0) -> Tensor:
    """The weighted mean of the values of all processes, as the part that this one's are of it.

    `items` says how many items these are of: the mean of what the processes return, weighted by
    their items as the training loop does it, is the mean over all values, and so is its gradient.
    """
    part = (values * weights).sum() / (total(weights.sum()) + floor)
    if not dist.is_initialized():
        return part
    return part * total(torch.tensor(float(items), device=values.device)) / items


def gather_rows(rows: Tensor) -> tuple[Tensor, int]:
    """The rows of all processes in their order, and where those of this one begin; no gradient."""
    if not dist.is_initialized():
        return rows, 0
    counts = [torch.zeros((), dtype=torch.long, device=rows.device) for _ in range(process_count())]
    dist.all_gather(counts, torch.tensor(len(rows), device=rows.device))
    sizes = [int(count) for count in counts]
    filled = rows.new_zeros((max(sizes), *rows.shape[1:]))
    filled[: len(rows)] = rows
    parts = [torch.empty_like(filled) for _ in sizes]
    dist.all_gather(parts, filled)
    whole = torch.cat([part[:size] for part, size in zip(parts, sizes, strict=True)])
    return whole, sum(sizes[: process_rank()])


def any_process(claim: bool) -> bool:
    """Whether a claim is true in any of the processes."""
    if not dist.is_initialized():
        return claim
    answer = torch.tensor(int(claim))
    dist.all_reduce(answer, op=dist.ReduceOp.MAX)
    return bool(answer)


class _Sum(torch.autograd.Function):
    """The sum over all processes, with gradient."""

    @staticmethod
    def forward(context: Any, value: Tensor) -> Tensor:
        return total(value)

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> Tensor:
        return total(gradients[0].contiguous())


def differentiable_total(value: Tensor) -> Tensor:
    """The sum of a value over all processes, with gradient."""
    result: Tensor = _Sum.apply(value)  # type: ignore[no-untyped-call]
    return result
