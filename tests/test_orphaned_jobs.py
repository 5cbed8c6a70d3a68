"""A run ends the SLURM jobs of dead runs in its folder, and of nobody else."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT
from workflow.scheduling.orphaned_jobs import LOCK

# What stands for SLURM: a file of jobs that squeue prints and that scancel takes lines out of.
SQUEUE = '#!/bin/sh\ncat "{queue}"\n'
SCANCEL = '#!/bin/sh\nfor job; do sed -i "/^$job|/d" "{queue}"; done\n'
RUN = "11111111-2222-3333-4444-555555555555"


@pytest.fixture
def queue(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Jobs of a run here, of one elsewhere, and one that no Snakemake submitted."""
    queue = tmp_path / "queue"
    here = tmp_path / "here"
    here.mkdir()
    queue.write_text(f"5|{RUN}|{here}\n6|{RUN}|{tmp_path}\n7|my job|{here}\n8|our_{RUN}|{here}\n")
    programs = tmp_path / "bin"
    programs.mkdir()
    for name, text in {"squeue": SQUEUE, "scancel": SCANCEL}.items():
        (programs / name).write_text(text.format(queue=queue))
        (programs / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    return queue


def start(folder: Path, *after: str) -> "subprocess.Popen[str]":
    """A run that takes over, and what it does then."""
    lines = ["from pathlib import Path", "from workflow.scheduling.orphaned_jobs import take_over"]
    lines += ["take_over(Path.cwd())", *after]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", "\n".join(lines)]
    return subprocess.Popen(
        command,
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def left(queue: Path) -> list[str]:
    return [line.partition("|")[0] for line in queue.read_text().splitlines()]


def test_the_jobs_of_a_dead_run_in_this_folder_are_ended(queue: Path, tmp_path: Path) -> None:
    run = start(tmp_path / "here")
    _, message = run.communicate()
    assert run.returncode == 0, message
    assert "ends SLURM jobs 5 8 of an earlier run" in message
    assert left(queue) == ["6", "7"]


def test_nothing_is_ended_while_another_run_lives_and_all_once_it_was_killed(
    queue: Path, tmp_path: Path
) -> None:
    here = tmp_path / "here"
    before = queue.read_text()
    queue.write_text("")
    with start(here, "print('ready', flush=True)", "import time", "time.sleep(60)") as alive:
        assert alive.stdout is not None and alive.stdout.readline() == "ready\n"
        queue.write_text(before)
        with start(here) as other:
            other.communicate()
        assert left(queue) == ["5", "6", "7", "8"]
        alive.kill()
    with start(here) as after:
        after.communicate()
    assert left(queue) == ["6", "7"]


def test_jobs_of_a_run_on_another_machine_are_left_to_the_user(queue: Path, tmp_path: Path) -> None:
    lock = tmp_path / "here" / LOCK
    lock.parent.mkdir()
    lock.write_text("login2")
    run = start(tmp_path / "here")
    _, message = run.communicate()
    assert run.returncode != 0
    assert "it was started on login2. If it is dead: scancel 5 8" in message
    assert left(queue) == ["5", "6", "7", "8"]


def test_without_slurm_there_is_nothing_to_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    run = start(tmp_path)
    _, message = run.communicate()
    assert run.returncode == 0
    assert message == ""
