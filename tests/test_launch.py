"""Steps that run at the same time have GPUs of their own. The GPUs here are only names."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from stages.runtime import launch
from tests.conftest import ROOT

Start = Callable[..., subprocess.Popen[bytes]]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts a step that asks for some of four GPUs, and stays."""
    with ExitStack() as stack:

        def run(gpus: int = 1, **environment: str) -> subprocess.Popen[bytes]:
            command = [sys.executable, "-m", "stages.runtime.launch", str(gpus)]
            process = subprocess.Popen(
                [*command, "tests.hold_gpu", str(tmp_path)],
                cwd=ROOT,
                env={
                    **os.environ,
                    "CUDA_VISIBLE_DEVICES": "0,1,2,3",
                    "TMPDIR": str(tmp_path),
                    **environment,
                },
                stderr=subprocess.DEVNULL,
            )
            stack.callback(process.wait)
            stack.callback(process.kill)
            return process

        yield run


def given(folder: Path, count: int) -> dict[int, str]:
    """Which GPUs each process has, once that many have some."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        leases = {int(path.stem): path.read_text() for path in folder.glob("*.gpus")}
        if len(leases) >= count and all(leases.values()):
            return leases
        time.sleep(0.02)
    raise AssertionError(f"only {leases} after a minute")


def test_four_steps_at_once_have_four_gpus(start: Start, tmp_path: Path) -> None:
    for _ in range(4):
        start()
    assert sorted(given(tmp_path, 4).values()) == ["0", "1", "2", "3"]


def test_a_fifth_step_waits_and_has_the_gpu_of_one_that_is_killed_at_once(
    start: Start, tmp_path: Path
) -> None:
    processes = [start() for _ in range(4)]
    before = given(tmp_path, 4)
    fifth = start()
    time.sleep(1)
    assert fifth.pid not in given(tmp_path, 4), "there was no GPU left"
    processes[2].kill()
    processes[2].wait()
    assert given(tmp_path, 5)[fifth.pid] == before[processes[2].pid]


def test_a_step_of_two_gpus_has_both_or_waits_without_holding_one(
    start: Start, tmp_path: Path
) -> None:
    for _ in range(3):
        start()
    given(tmp_path, 3)
    # Under torchrun two processes would be started: they write the same two.
    start(2)
    time.sleep(1)
    assert len(given(tmp_path, 3)) == 3
    start()
    assert sorted(given(tmp_path, 4).values()) == ["0", "1", "2", "3"]


def test_two_jobs_share_a_gpu_where_that_is_asked_for(start: Start, tmp_path: Path) -> None:
    for _ in range(5):
        start(RISFLOW_JOBS_PER_GPU="2")
    assert sorted(given(tmp_path, 5).values())[:2] == ["0", "0"]
    assert len(set(given(tmp_path, 5).values())) == 4, "an idle one goes before a shared one"


def test_jobs_of_slurm_do_not_wait_for_each_other(start: Start, tmp_path: Path) -> None:
    # Each may see its own GPU as number 0.
    start(CUDA_VISIBLE_DEVICES="0", SLURM_JOB_ID="7")
    start(CUDA_VISIBLE_DEVICES="0", SLURM_JOB_ID="8")
    assert list(given(tmp_path, 2).values()) == ["0", "0"]


def test_without_gpus_a_step_runs_as_it_is(start: Start, tmp_path: Path) -> None:
    start(4, CUDA_VISIBLE_DEVICES="")
    deadline = time.monotonic() + 60
    while not list(tmp_path.glob("*.gpus")) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert [path.read_text() for path in tmp_path.glob("*.gpus")] == [""]


@pytest.mark.parametrize("text", ["-1", "NoDevFiles", ""])
def test_steps_without_a_gpu_do_not_wait_for_each_other(
    start: Start, tmp_path: Path, text: str
) -> None:
    for _ in range(2):
        start(1, CUDA_VISIBLE_DEVICES=text)
    deadline = time.monotonic() + 60
    while len(list(tmp_path.glob("*.gpus"))) < 2 and time.monotonic() < deadline:
        time.sleep(0.02)
    assert [path.read_text() for path in tmp_path.glob("*.gpus")] == [text, text]


def test_instances_of_one_gpu_are_leased_one_by_one_and_one_to_a_step(
    start: Start, tmp_path: Path
) -> None:
    names = [f"MIG-GPU-8932f937-d72c-4106-c12f-20bd9faed9f6/{number}/0" for number in (1, 2)]
    for _ in range(2):
        start(2, CUDA_VISIBLE_DEVICES=", ".join(names))
    assert sorted(given(tmp_path, 2).values()) == names


@pytest.mark.parametrize("own", [None, "glibc.malloc.perturb=7"])
def test_a_step_keeps_the_memory_that_it_frees_unless_the_user_says_otherwise(
    own: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    environment = {"CUDA_VISIBLE_DEVICES": ""} | ({} if own is None else {"GLIBC_TUNABLES": own})
    monkeypatch.setattr(os, "environ", environment)
    monkeypatch.setattr(os, "execv", lambda *_: None)
    launch.main(["0", "stages.predict"])
    assert environment["GLIBC_TUNABLES"] == (own or launch.KEEP_MEMORY)
