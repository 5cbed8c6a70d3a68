"""The processes of one training: which of them this is, and what they tell each other.

torchrun starts one for each GPU (stages/runtime/launch.py). What is asked here has an answer for
a single process too, so that models and losses are written once.
"""

import ctypes
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

DIE_WITH_PARENT = 1  # PR_SET_PDEATHSIG of Linux's prctl

_entered: list[dist.ProcessGroup | None] = []  # the groups of `among_first`, the current one last


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
        _first_processes.cache_clear()
        dist.destroy_process_group()


@contextmanager
def among_first(count: int) -> Iterator[None]:
    """What is exchanged in here stays among the first `count` processes; each other one is alone.

    All processes must enter it.
    """
    everybody = count >= process_count()
    _entered.append(peers() if everybody else _first_processes(count))
    try:
        yield
    finally:
        _entered.pop()


@cache
def _first_processes(count: int) -> dist.ProcessGroup | None:
    """The group of the first processes; None for one that is alone in it, or outside."""
    group = dist.new_group(list(range(count)))  # all processes must take part in this
    return group if isinstance(group, dist.ProcessGroup) and count > 1 else None


def peers() -> dist.ProcessGroup | None:
    """The processes that this one exchanges values with, itself included; None if it is alone."""
    if not dist.is_initialized():
        return None
    return _entered[-1] if _entered else dist.group.WORLD


def total(value: Tensor) -> Tensor:
    """The sum of a value over its peers, without gradient."""
    return _total(value, peers())


def _total(value: Tensor, group: dist.ProcessGroup | None) -> Tensor:
    value = value.detach()
    if group is not None:
        value = value.clone()
        dist.all_reduce(value, group=group)
    return value


def mean_over_all(values: Tensor, weights: Tensor, items: int, floor: float = 0.0) -> Tensor:
    """The weighted mean of the values of all peers, as the part that this process's are of it.

    `items` says how many items these are of: the mean of what the peers return, weighted by their
    items as the training loop does it, is the mean over all values, and so is its gradient.
    """
    local_sum = (values * weights).sum() / (total(weights.sum()) + floor)
    if peers() is None:
        return local_sum
    return local_sum * total(torch.tensor(float(items), device=values.device)) / items


def gather_rows(rows: Tensor) -> tuple[Tensor, int]:
    """The rows of all peers in their order, and where those of this process begin; no gradient."""
    group = peers()
    if group is None:
        return rows, 0
    counts = [torch.zeros((), dtype=torch.long, device=rows.device) for _ in range(group.size())]
    dist.all_gather(counts, torch.tensor(len(rows), device=rows.device), group=group)
    sizes = [int(count) for count in counts]
    filled = rows.new_zeros((max(sizes), *rows.shape[1:]))
    filled[: len(rows)] = rows
    parts = [torch.empty_like(filled) for _ in sizes]
    dist.all_gather(parts, filled, group=group)
    whole = torch.cat([gathered[:size] for gathered, size in zip(parts, sizes, strict=True)])
    return whole, sum(sizes[: dist.get_rank(group)])


def gather_differentiable_rows(rows: Tensor) -> Tensor:
    """The rows of all peers in their order; what any peer makes of them has a gradient here."""
    if peers() is None:
        return rows
    whole, first = gather_rows(rows.detach())
    own = torch.zeros_like(whole).index_copy(
        0, torch.arange(first, first + len(rows), device=rows.device), rows
    )
    return differentiable_total(own)


def any_process(claim: bool) -> bool:
    """Whether a claim is true in any of the processes."""
    if not dist.is_initialized():
        return claim
    answer = torch.tensor(int(claim))
    dist.all_reduce(answer, op=dist.ReduceOp.MAX)
    return bool(answer)


class _Sum(torch.autograd.Function):
    """The sum over all peers, with gradient."""

    @staticmethod
    def forward(context: Any, value: Tensor) -> Tensor:
        context.group = peers()
        return _total(value, context.group)

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> Tensor:
        return _total(gradients[0].contiguous(), context.group)


def differentiable_total(value: Tensor) -> Tensor:
    """The sum of a value over its peers, with gradient."""
    result: Tensor = _Sum.apply(value)  # type: ignore[no-untyped-call]
    return result
