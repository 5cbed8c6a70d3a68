"""What has become of each planned job, told by the files that it leaves: log, benchmark, outputs.

Snakemake marks a job when it begins it and takes the mark away at its end; a mark says that the job
runs if a run is alive. A log that no benchmark followed is that of a job that did not reach its
end. Both hold wherever the job runs, and whatever a run prints.
"""

import re
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import psutil

from risflow.status.plan import Job

State = Literal["done", "running", "submitted", "waiting", "failed"]
SNAKEMAKE = Path(".snakemake")
CLOCKS = 5.0  # seconds that the clocks of two machines may differ
LAST_BYTES = 20_000  # of a log
STEP = re.compile(r"step (\d+) of (\d+), (\d+) s left")


class Training(NamedTuple):
    """How far a training says that it is."""

    step: int
    total: int
    seconds_left: float


def find_states(jobs: Sequence[Job], is_alive: bool) -> list[State]:
    """The state of each job; with no run alive none runs."""
    return [_state(job, is_alive) for job in jobs]


def _state(job: Job, is_alive: bool) -> State:
    log = _modified(job.log)
    if job.started is not None and is_alive:  # a cluster may let it wait, without a log of its own
        return "running" if log is not None and log > job.started - CLOCKS else "submitted"
    if not job.to_do:
        return "done"
    return "failed" if log is not None and not _reached_its_end(job, log) else "waiting"


def _reached_its_end(job: Job, log: float) -> bool:
    modified = _modified(job.benchmark)
    return modified is not None and modified >= log


def _modified(path: str) -> float | None:
    try:
        return Path(path).stat().st_mtime
    except FileNotFoundError:
        return None


def find_run() -> Literal["here", "locked", "none"]:
    """Whether a run of Snakemake is alive in this folder.

    `here`: as a process of this machine, by the log that it keeps open. `locked`: its lock says
    so; it runs on another machine, or was killed.
    """
    if _command_of_run() is not None:
        return "here"
    return "locked" if any((SNAKEMAKE / "locks").glob("*.lock")) else "none"


def config_of_run() -> list[str]:
    """What the run that is alive on this machine was given by --config; nothing without one."""
    words, is_config = list[str](), False
    for word in _command_of_run() or ():
        if word.startswith("-"):
            is_config = word in ("--config", "-C")
        elif is_config and "=" in word:
            words.append(word)
    return words


def _command_of_run() -> list[str] | None:
    """The command line of the process that keeps a log of Snakemake open in this folder."""
    logs = {str(path.resolve()) for path in (SNAKEMAKE / "log").glob("*.log")}
    for process in psutil.process_iter():
        try:
            if logs.intersection(file.path for file in process.open_files()):
                return list(process.cmdline())
        except (psutil.Error, OSError):  # it has ended, or is another user's
            continue
    return None


def last_lines(log: str, count: int) -> list[str]:
    """The end of a log, without empty lines; a bar's line is what it showed last."""
    path = Path(log)
    if not path.is_file():
        return []
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - LAST_BYTES))
        text = file.read().decode(errors="replace")
    lines = [line.rpartition("\r")[2].rstrip() for line in text.split("\n")]
    return [line for line in lines if line][-count:]


def training_progress(log: str) -> Training | None:
    """The last line of its progress that a training wrote, less the time since then."""
    matches = [match for line in last_lines(log, 1000) if (match := STEP.search(line))]
    if not matches:
        return None
    step, total, left = map(int, matches[-1].groups())
    since = time.time() - (_modified(log) or 0)
    return Training(step, total, max(0.0, left - since))
