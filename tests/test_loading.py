"""Who reads batches; threads that read ahead give the same ones, and end with them."""

import threading
import time
from contextlib import closing
from typing import Any

import pytest
import torch
from torch import Tensor

from stages.runtime.errors import InputError
from stages.runtime.loading import count_workers, read_ahead

KEYS = [[3, 1], [4], [1, 5, 9], [2, 6], [5], [3, 5], [8, 9]]


class Numbers:
    """Items that are their keys, later ones read faster; it keeps which were read."""

    def __init__(self, missing: int | None = None) -> None:
        self.missing = missing
        self.read: list[int] = []

    def __getitem__(self, key: int) -> int:
        time.sleep(0.002 * (10 - key))
        if key == self.missing:
            raise InputError(f"{key}.jpg: no such image")
        self.read.append(key)
        return key

    def collate(self, items: list[int]) -> dict[str, Tensor]:
        return {"numbers": torch.tensor(items)}


def numbers(batches: Any) -> list[list[int]]:
    return [batch["numbers"].tolist() for batch in batches]


def test_a_gpu_step_has_its_threads_read_and_a_cpu_step_compute(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "8")
    gpu, cpu = torch.device("cuda"), torch.device("cpu")
    assert [count_workers(device) for device in (gpu, cpu)] == [7, 0]
    assert [count_workers(device, 3) for device in (gpu, cpu)] == [3, 3]


@pytest.mark.parametrize("threads", [0, 1, 3])
def test_batches_come_in_order_whoever_reads_them(threads: int) -> None:
    assert numbers(read_ahead(Numbers(), KEYS, threads)) == KEYS


@pytest.mark.parametrize("threads", [0, 2])
def test_an_item_that_cannot_be_read_is_named_when_its_batch_is_asked_for(threads: int) -> None:
    batches = read_ahead(Numbers(missing=9), KEYS, threads)
    assert [next(batches)["numbers"].tolist() for _ in range(2)] == KEYS[:2]
    with pytest.raises(InputError, match=r"9\.jpg: no such image"):
        next(batches)


def test_threads_read_one_batch_ahead_and_no_more() -> None:
    data = Numbers()
    with closing(read_ahead(data, KEYS, 2)) as batches:
        next(batches)
        wanted = sorted(key for batch in KEYS[:2] for key in batch)
        deadline = time.monotonic() + 10
        while len(data.read) < len(wanted) and time.monotonic() < deadline:
            time.sleep(0.001)
        time.sleep(0.05)
        assert sorted(data.read) == wanted


def test_the_threads_end_with_the_batches() -> None:
    data, before = Numbers(), threading.active_count()
    with closing(read_ahead(data, [[0]] * 1000, 2)) as batches:
        next(batches)
        assert threading.active_count() == before + 2
    assert threading.active_count() == before
    assert len(data.read) <= 2
