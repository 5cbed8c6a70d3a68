"""Which items each step sees, in which order, and which process sees which of them.

An epoch's order is a function of seed and epoch. A step's items are the same however many processes
share them and in however many parts they are taken.
"""

import math
from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader

from stages.config.segmentors import Training
from stages.runtime.distributed import process_count, process_rank

Batch = dict[str, Tensor]
Draw = tuple[int, int]  # epoch, item
MicroBatch = tuple[list[Draw], float]  # one process's items, and their share of the step's


class TrainingData(Protocol):
    """Items addressed by (epoch, index), the same item for the same address."""

    groups: NDArray[np.int64] | None  # of each item: what it shares an image with

    def __len__(self) -> int: ...

    def __getitem__(self, draw: Draw) -> Any: ...

    def collate(self, items: list[Any]) -> Batch: ...


def count_steps(data: TrainingData, config: Training) -> int:
    """Steps an epoch: the last, smaller batch counts."""
    return math.ceil(len(data) / config.batch_size)


def load_steps(
    data: TrainingData, config: Training, accumulate: int, first_step: int
) -> Iterator[list[tuple[Batch, float]]]:
    """This process's micro-batches of each step and their shares, from `first_step` to the last."""
    steps = _OwnSteps(data, config, accumulate, first_step)
    loader = iter(
        DataLoader(
            data,  # type: ignore[arg-type]  # addressed by (epoch, index)
            batch_sampler=_Items(steps),  # type: ignore[arg-type]
            collate_fn=data.collate,
            num_workers=config.workers,
            pin_memory=torch.cuda.is_available(),
        )
    )
    for step in steps:
        yield [(next(loader), share) for _, share in step]


class _OwnSteps:
    """The micro-batches of this process, step by step, as often as they are gone through."""

    def __init__(
        self, data: TrainingData, config: Training, accumulate: int, first_step: int
    ) -> None:
        self.data, self.config, self.first_step = data, config, first_step
        self.size = math.ceil(config.batch_size / accumulate)

    def __iter__(self) -> Iterator[list[MicroBatch]]:
        for items in _steps(self.data, self.config, self.first_step):
            yield micro_batches(items, self.size, process_rank(), process_count())


class _Items:
    """What each forward pass sees, for the processes that read it."""

    def __init__(self, steps: _OwnSteps) -> None:
        self.steps = steps

    def __iter__(self) -> Iterator[list[Draw]]:
        for step in self.steps:
            for items, _ in step:
                yield items


def micro_batches(items: Sequence[Draw], size: int, rank: int, processes: int) -> list[MicroBatch]:
    """What one process sees of a step's items: of each part of `size` items, its own piece.

    A part with fewer items than processes leaves some without: they see its first item with share
    0, because all of them must take part in each step.
    """
    result = []
    for start in range(0, len(items), size):
        part = list(items[start : start + size])
        first, last = (len(part) * number // processes for number in (rank, rank + 1))
        own = part[first:last]
        result.append((own or part[:1], len(own) / len(items)))
    return result


def _steps(data: TrainingData, config: Training, first_step: int) -> Iterator[list[Draw]]:
    steps = count_steps(data, config)
    for epoch in range(first_step // steps, config.epochs):
        order = _order(data, np.random.default_rng([config.seed, epoch]), config.group_by_image)
        for step in range(first_step - epoch * steps if epoch == first_step // steps else 0, steps):
            chosen = order[step * config.batch_size : (step + 1) * config.batch_size]
            yield [(epoch, int(index)) for index in chosen]


def _order(
    data: TrainingData, draw: np.random.Generator, group_by_image: bool
) -> NDArray[np.int64]:
    """A permutation of all items; grouped, the items of an image stay together."""
    order = draw.permutation(len(data))
    if not group_by_image or data.groups is None:
        return order
    _, group = np.unique(data.groups, return_inverse=True)
    rank = draw.permutation(group.max() + 1)
    return order[np.argsort(rank[group[order]], kind="stable")]
