"""Start a step on GPUs of its own: `python -m stages.runtime.launch GPUS MODULE ARGUMENTS...`.

Steps that run at the same time on one machine never share a GPU, unless JOBS_PER_GPU says so: a
GPU is leased by a lock on a file, which the kernel takes back when the process ends, however it
ends. The GPUs are those that CUDA_VISIBLE_DEVICES names, else all of the machine; a SLURM job
leases among those that SLURM gave it. With several, the step runs once for each under torchrun, in
a job of several nodes on all of them. Without any GPU it runs on the CPU.
"""

import fcntl
import logging
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

from stages.runtime.gpu_names import is_mig, visible_gpus

JOBS_PER_GPU = "RISFLOW_JOBS_PER_GPU"
NODE = "RISFLOW_NODE"  # set in what runs on each node of a job of several
FIRST_PORT, PORTS = 20000, 10000
# Of what a step frees, the C library gives much back to the system, which then hands out the same
# pages again, each cleared: a tenth of the time of a step on a CPU. It keeps up to 256 MB now.
KEEP_MEMORY = ":".join(
    f"glibc.malloc.{name}={value}"
    for name, value in (("mmap_threshold", 2**25), ("trim_threshold", 2**28), ("hugetlb", 1))
)
POLL, REMIND = 0.2, 60.0  # seconds between two looks, and between two lines that say so

log = logging.getLogger(__name__)


def main(arguments: Sequence[str]) -> None:
    """Become the step; its locks stay with this process."""
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    wanted, module, *rest = arguments
    os.environ.setdefault("GLIBC_TUNABLES", KEEP_MEMORY)
    nodes = count_nodes()
    if nodes > 1 and NODE not in os.environ:
        _become_step_of_all_nodes(nodes, int(wanted), [module, *rest])
    devices = visible_gpus()
    count = min(int(wanted), len(devices))
    if count > 1 and any(map(is_mig, devices)):
        log.warning("%s GPUs asked for; CUDA gives a process one MIG instance: one is used", wanted)
        count = 1
    elif 0 < count < int(wanted):
        log.warning("%s GPUs asked for, %d are visible", wanted, count)
    if count:
        jobs = int(os.environ.get(JOBS_PER_GPU, "1"))
        leased = lease(devices, count, jobs, lease_folder())
        log.info("on GPU %s", ",".join(leased))
        os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(leased)
    if count > 1 or nodes > 1:
        sys.exit(_run_processes(max(count, 1), nodes, module, rest))
    os.execv(sys.executable, [sys.executable, "-m", module, *rest])


def count_nodes() -> int:
    """How many nodes a SLURM job has that was made to start its own steps (`mpi`); else one."""
    if NODE in os.environ:
        return int(os.environ["SLURM_NNODES"])
    job = os.environ.get("SLURM_JOB_ID")
    is_task = "SLURM_PROCID" in os.environ  # of a job, on one of its nodes
    if job is None or is_task or shutil.which("scontrol") is None:
        return 1
    told = subprocess.run(["scontrol", "show", "job", job], capture_output=True, text=True)
    match = re.search(r"NumNodes=(\d+)", told.stdout)
    return int(match[1]) if match else 1


def _become_step_of_all_nodes(nodes: int, gpus: int, arguments: Sequence[str]) -> None:
    """Run this once on each node of the job, each with its part of the GPUs."""
    own = str(gpus // nodes)
    tasks = [f"--nodes={nodes}", f"--ntasks={nodes}", "--ntasks-per-node=1", "--cpu-bind=none"]
    share = [f"--cpus-per-task={os.environ.get('OMP_NUM_THREADS', '1')}"]
    if gpus:
        share.append(f"--gpus-per-node={own}")
    os.environ[NODE] = "1"
    step = [sys.executable, "-m", "stages.runtime.launch", own, *arguments]
    os.execvp("srun", ["srun", *tasks, *share, *step])


def _run_processes(count: int, nodes: int, module: str, arguments: Sequence[str]) -> int:
    """Run the step once for each GPU by torchrun; its exit code is that of the first to fail."""
    from torch.distributed import run  # takes seconds
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

    threads = int(os.environ.get("OMP_NUM_THREADS", count))
    os.environ["OMP_NUM_THREADS"] = str(max(1, threads // count))
    meeting = ["--standalone"] if nodes == 1 else _meeting(nodes)
    each = [f"--nproc-per-node={count}", "-m", module, *arguments]
    try:
        run.run(run.parse_args([*meeting, *each]))
    except ChildFailedError as failed:
        return failed.get_first_failure()[1].exitcode
    except SignalException as ended:
        return 128 + ended.sigval
    return 0


def _meeting(nodes: int) -> list[str]:
    """Where the nodes of a SLURM step meet: at the one that started it, its first."""
    port = FIRST_PORT + int(os.environ["SLURM_JOB_ID"]) % PORTS
    return [
        f"--nnodes={nodes}",
        f"--node-rank={os.environ['SLURM_NODEID']}",
        f"--master-addr={os.environ['SLURM_LAUNCH_NODE_IPADDR']}",
        f"--master-port={port}",
    ]


def lease_folder() -> Path:
    """Where the locks are: one folder for all users of a machine; each SLURM job has its own."""
    place = "-".join(os.environ.get(name, "local") for name in ("SLURM_JOB_ID", "SLURMD_NODENAME"))
    folder = Path(tempfile.gettempdir()) / "risflow-gpus" / place
    for path in (folder.parent, folder):
        if not path.exists():
            path.mkdir(parents=True, exist_ok=True)
            path.chmod(0o1777)
    return folder


def lease(devices: Sequence[str], count: int, jobs: int, folder: Path) -> list[str]:
    """Wait for `count` of the devices, each with at most `jobs` processes, and hold them.

    They are held until this process ends, also by another program that it becomes.
    """
    reminded = 0.0
    while True:
        leased = _lease_now(devices, count, jobs, folder)
        if leased:
            return leased
        if time.monotonic() - reminded > REMIND:
            log.info("waiting for %d of the GPUs %s; others use them", count, ",".join(devices))
            reminded = time.monotonic()
        time.sleep(POLL)


def _lease_now(devices: Sequence[str], count: int, jobs: int, folder: Path) -> list[str]:
    """The first devices that are free, all that are wanted or none."""
    held: dict[str, int] = {}
    for slot in range(jobs):  # an idle device before a second job on one
        for device in devices:
            if len(held) < count and device not in held:
                lock = _lock(folder / f"{quote(device, safe='')}.{slot}")
                if lock is not None:
                    held[device] = lock
    if len(held) == count:
        return list(held)
    for lock in held.values():
        os.close(lock)
    return []


def _lock(path: Path) -> int | None:
    """An open file that is locked, None if another process has it locked."""
    # A record lock belongs to this process alone: it outlives exec, and no child inherits it.
    # Made and opened apart: in a folder of many users, some kernels refuse to do both in one go.
    if not path.exists():
        path.touch()
        path.chmod(0o666)
    lock = os.open(path, os.O_RDWR)
    try:
        fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(lock)
        return None
    os.set_inheritable(lock, True)
    return lock


if __name__ == "__main__":
    main(sys.argv[1:])
