"""The items of each step and of each process, in order.

The order of an epoch is a function of seed and epoch. The items of a step do not depend on the
number of processes and micro-batches.
"""

import math
import time
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from stages.config.section import Training
from stages.runtime.distributed import process_count, process_rank
from stages.runtime.errors import InputError
from stages.runtime.loading import load_batches

Batch = dict[str, Tensor]
SampleKey = tuple[int, int]  # epoch, item


@dataclass(frozen=True)
class MicroBatch:
    """The items of one process in a forward pass that all processes make together.

    If there are fewer items than processes, the first processes have one each. The others have the
    first item, which does not count, because all must take part in the exchange of gradients.
    """

    items: list[SampleKey]
    share: float  # of the step's items in this pass, of all processes
    processes: int  # those that have items of their own


WHOLE_STEP = MicroBatch([], share=1.0, processes=1)  # of a step that is not divided


class TrainingData(Protocol):
    """Items by (epoch, index); the same key always gives the same item."""

    groups: NDArray[np.int64] | None  # the image of each item, if there are images

    def __len__(self) -> int: ...

    def __getitem__(self, key: SampleKey) -> Any: ...

    def collate(self, items: list[Any]) -> Batch:
        """A batch as it is sent to the device: images as bytes."""

    def prepare(self, batch: Batch) -> Batch:
        """What the model takes, made on its device of a batch of `collate`."""


def count_steps(data: TrainingData, config: Training) -> int:
    """Steps an epoch: a last, smaller batch counts, unless `drop_last`.

    Raises InputError if the items do not fill one batch then.
    """
    if not config.drop_last:
        return math.ceil(len(data) / config.batch_size)
    if len(data) < config.batch_size:
        raise InputError(
            f"batch_size: {config.batch_size} with drop_last, for {len(data)} items; needed a batch"
            " that they fill, or drop_last: false"
        )
    return len(data) // config.batch_size


def count_items(data: TrainingData, config: Training) -> int:
    """Items that an epoch uses."""
    return min(len(data), config.batch_size * count_steps(data, config))


class Steps:
    """This process's micro-batches of each step, loaded, from `first_step` to the last.

    `workers` processes read the items beside this one; with 0 it reads them itself. `waited` are
    the seconds that this process has waited for items.
    """

    def __init__(
        self, data: TrainingData, config: Training, accumulate: int, first_step: int, workers: int
    ) -> None:
        self.data, self.workers = data, workers
        self.own = _OwnSteps(data, config, accumulate, first_step)
        self.waited = 0.0

    def __iter__(self) -> Generator[list[tuple[Batch, MicroBatch]], None, None]:
        with closing(load_batches(self.data, _Items(self.own), self.workers)) as loader:
            for step in self.own:
                start = time.perf_counter()
                batches = [(next(loader), micro_batch) for micro_batch in step]
                self.waited += time.perf_counter() - start
                yield batches


class _OwnSteps:
    """The micro-batches of this process, step by step; it can be iterated several times."""

    def __init__(
        self, data: TrainingData, config: Training, accumulate: int, first_step: int
    ) -> None:
        self.data, self.config, self.first_step = data, config, first_step
        self.size = math.ceil(config.batch_size / accumulate)

    def __iter__(self) -> Iterator[list[MicroBatch]]:
        for items in _steps(self.data, self.config, self.first_step):
            yield micro_batches(items, self.size, process_rank(), process_count())


class _Items:
    """The items of each forward pass, for the data loader."""

    def __init__(self, steps: _OwnSteps) -> None:
        self.steps = steps

    def __iter__(self) -> Iterator[list[SampleKey]]:
        for step in self.steps:
            for micro_batch in step:
                yield micro_batch.items


def micro_batches(
    items: Sequence[SampleKey], size: int, rank: int, processes: int
) -> list[MicroBatch]:
    """The micro-batches of one process: its piece of each `size` items of the step."""
    result = []
    for start in range(0, len(items), size):
        chunk = list(items[start : start + size])
        sharing = min(processes, len(chunk))
        first, last = (len(chunk) * number // sharing for number in (rank, rank + 1))
        own = chunk[first:last] if rank < sharing else chunk[:1]
        result.append(MicroBatch(own, len(chunk) / len(items), sharing))
    return result


def count_rows(batch: Batch) -> int:
    """What the losses of a batch are means over: its expressions or objects."""
    return len(batch["image_index"])


def _steps(data: TrainingData, config: Training, first_step: int) -> Iterator[list[SampleKey]]:
    steps = count_steps(data, config)
    for epoch in range(first_step // steps, config.epochs):
        order = _order(data, np.random.default_rng([config.seed, epoch]), config.group_by_image)
        for step in range(first_step - epoch * steps if epoch == first_step // steps else 0, steps):
            chosen = order[step * config.batch_size : (step + 1) * config.batch_size]
            yield [(epoch, int(index)) for index in chosen]


def _order(
    data: TrainingData, random: np.random.Generator, group_by_image: bool
) -> NDArray[np.int64]:
    """A permutation of all items; grouped, the items of an image stay together."""
    order = random.permutation(len(data))
    if not group_by_image or data.groups is None:
        return order
    _, group = np.unique(data.groups, return_inverse=True)
    rank = random.permutation(group.max() + 1)
    return order[np.argsort(rank[group[order]], kind="stable")]
