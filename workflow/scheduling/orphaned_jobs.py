"""What a Snakemake that was killed leaves on a SLURM cluster: jobs that still run.

They would write the same files as the jobs of the next run, so that one ends them before it
submits any. It can tell that they are nobody's by a lock on a file that every run on a cluster
holds while it lives, and that the system takes away from a process however it dies.
"""

import fcntl
import logging
import os
import re
import shutil
import socket
import subprocess
import time
from pathlib import Path

from stages.runtime.errors import InputError

log = logging.getLogger(__name__)

LOCK = Path(".snakemake/controller.lock")
RUN_NAME = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$")  # of a run's SLURM jobs
PATIENCE = 180.0  # seconds for canceled jobs to end


def take_over(folder: Path) -> None:
    """End the SLURM jobs of dead runs in `folder`, and hold its lock as long as this process lives.

    With another run alive nothing is ended: its jobs cannot be told from those of the dead. Raises
    InputError with the remedy if jobs are there and nobody can say whose they are.
    """
    path = folder / LOCK
    path.parent.mkdir(exist_ok=True)
    lock = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)  # never closed: held until the end
    host = socket.gethostname()
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        fcntl.flock(lock, fcntl.LOCK_SH)
        return
    except OSError as error:
        log.warning("%s: %s; jobs of a run that was killed are not ended", path, error.strerror)
        return
    jobs = left_over_jobs(folder)
    last_host = os.read(lock, 1000).decode().strip() or host
    if jobs and last_host != host:  # not every file system shows locks of another machine
        raise InputError(
            f"SLURM jobs {' '.join(jobs)} of an earlier run in {folder} are not finished; it was"
            f" started on {last_host}. If it is dead: scancel {' '.join(jobs)}"
        )
    os.ftruncate(lock, 0)
    os.pwrite(lock, host.encode(), 0)
    if jobs:
        log.warning("ends SLURM jobs %s of an earlier run in %s", " ".join(jobs), folder)
        _cancel(jobs, folder)
    fcntl.flock(lock, fcntl.LOCK_SH)


def left_over_jobs(folder: Path) -> list[str]:
    """The user's SLURM jobs that Snakemake submitted from `folder` and that are not finished."""
    if shutil.which("squeue") is None:
        return []
    command = ["squeue", "--me", "--noheader", "--format=%A|%j|%Z"]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        log.warning("cannot look for jobs of an earlier run: %s", done.stderr.strip())
        return []
    rows = [line.split("|", 2) for line in done.stdout.splitlines()]
    here = folder.resolve()
    return [job for job, name, at in rows if RUN_NAME.search(name) and Path(at).resolve() == here]


def _cancel(jobs: list[str], folder: Path) -> None:
    subprocess.run(["scancel", *jobs], check=True)
    deadline = time.monotonic() + PATIENCE
    while left := set(left_over_jobs(folder)) & set(jobs):
        if time.monotonic() > deadline:
            raise InputError(f"SLURM jobs {' '.join(left)} were canceled and do not end; try later")
        time.sleep(1)
