"""Batches read beside what computes: by processes of their own, or by threads.

Trainings have processes, which leave signals and errors to the one that asks. Passes over a split
have threads: decoding and resizing leave Python's lock to others.
"""

import signal
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import contextmanager
from itertools import islice
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from stages.runtime.device import given_threads
from stages.runtime.errors import ENDING, InputError

Key = TypeVar("Key")
Content = TypeVar("Content")


class Items(Protocol):
    """Items by key, and how they become a batch."""

    def __getitem__(self, key: Any) -> Any: ...

    def collate(self, items: list[Any]) -> dict[str, Tensor]: ...


def count_workers(device: torch.device, wanted: int | None = None) -> int:
    """How many read items: as wanted, else the threads that a GPU's step has left.

    On a CPU the threads compute.
    """
    if wanted is not None:
        return wanted
    return max(0, given_threads() - 1) if device.type == "cuda" else 0


def read_ahead(
    data: Items, keys: Iterable[Sequence[Any]], threads: int
) -> Generator[dict[str, Tensor], None, None]:
    """The batch of each sequence of keys, in order, read by `threads` or, with 0, when asked for.

    Raises the error of an item when its batch is asked for.
    """
    if threads == 0:
        yield from (data.collate([data[key] for key in batch]) for batch in keys)
        return
    pool = ThreadPoolExecutor(threads)
    try:
        for _, items in ahead(pool, data.__getitem__, keys):
            yield data.collate(items)
    finally:
        pool.shutdown(cancel_futures=True)


def ahead(
    pool: Executor, read: Callable[[Key], Content], batches: Iterable[Sequence[Key]]
) -> Iterator[tuple[Sequence[Key], list[Content]]]:
    """Batches with what is read for each of their keys; the pool reads one batch ahead."""
    remaining = iter(batches)
    started: deque[tuple[Sequence[Key], list[Future[Content]]]] = deque()

    def start(count: int) -> None:
        for batch in islice(remaining, count):
            started.append((batch, [pool.submit(read, key) for key in batch]))

    start(2)
    while started:
        batch, futures = started.popleft()
        yield batch, [future.result() for future in futures]
        start(1)


def load_batches(
    data: Items, keys: Iterable[Sequence[Any]], workers: int
) -> Generator[dict[str, Tensor], None, None]:
    """The batch of each sequence of keys, in order, read by `workers` processes or, with 0, here.

    A signal to the whole group of processes reaches this process alone: it decides when to end, and
    its workers end with it. Who stops before the end closes the iterator (contextlib.closing).
    Raises the InputError or OSError of a worker as it was there.
    """
    reading = _Reading(data)
    loader: DataLoader[Any] = DataLoader(
        reading,  # type: ignore[arg-type]  # indexed by key
        batch_sampler=keys,  # type: ignore[arg-type]  # any iterable will do
        collate_fn=reading.collate,
        num_workers=workers,
        pin_memory=torch.cuda.is_available(),
    )
    with _signals_blocked():  # which the workers inherit
        batches = iter(loader)
    try:
        for batch in batches:
            if isinstance(batch, Exception):
                raise batch
            yield batch
    finally:
        del batches  # ends the workers; at its exit Python would wait for them, by SIGTERM, forever


class _Reading:
    """Some data; an error takes the place of the item, and of its batch."""

    def __init__(self, data: Items) -> None:
        self.data = data

    def __getitem__(self, key: Any) -> Any:
        try:
            return self.data[key]
        except (InputError, OSError) as error:
            return error

    def collate(self, items: list[Any]) -> dict[str, Tensor] | Exception:
        failed = next((item for item in items if isinstance(item, Exception)), None)
        return failed or self.data.collate(items)


@contextmanager
def _signals_blocked() -> Iterator[None]:
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ENDING)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
