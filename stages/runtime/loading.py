"""Batches read by processes of their own, which leave signals and errors to the one that asks."""

import signal
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from stages.runtime.errors import ENDING, InputError


class Items(Protocol):
    """Items by key, and how they become a batch."""

    def __getitem__(self, key: Any) -> Any: ...

    def collate(self, items: list[Any]) -> dict[str, Tensor]: ...


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
