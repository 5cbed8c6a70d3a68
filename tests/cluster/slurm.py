"""A SLURM cluster of several nodes on this machine, for as long as a test: no GPU is needed.

Each node is a slurmd of its own. A device of a node is a link to /dev/null, which is enough for
SLURM to hand it to one job at a time and to set CUDA_VISIBLE_DEVICES. Everything lies in one
folder, and everything that was started is ended.
"""

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

PACKAGES = ("slurmctld", "slurmd", "slurm-client", "munge")
PROGRAMS = ("slurmctld", "slurmd", "sbatch", "srun", "squeue", "scontrol", "munged", "mungekey")
SEARCH = f"{os.environ['PATH']}:/usr/sbin:/sbin"
LONGEST_SOCKET = 100  # characters of a Unix socket's path
NODES = ("n1", "n2")
CPUS, MEMORY, GPUS = 2, 16000, 2  # of a node; declared, not looked for


@dataclass(frozen=True)
class Task:
    """A process that SLURM started for a job, as its prolog and epilog saw it."""

    job: str
    node: str
    devices: str  # CUDA_VISIBLE_DEVICES, - if not set
    start: float
    end: float


class Cluster:
    """What can be asked of a running cluster."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        clean = {k: v for k, v in os.environ.items() if not k.startswith(("SLURM_", "SBATCH_"))}
        conf = str(folder / "slurm.conf")
        self.environment = clean | {"SLURM_CONF": conf, "PATH": f"{folder}/bin:{SEARCH}"}

    def call(self, *command: str) -> str:
        """The output of a SLURM command."""
        done = subprocess.run(command, env=self.environment, capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(f"{' '.join(command)}: {done.stderr}")
        return done.stdout

    def active(self) -> dict[str, str]:
        """The jobs that are not finished: id -> what Snakemake calls it (rule and wildcards)."""
        lines = self.call("squeue", "--noheader", "--format=%A|%k").splitlines()
        return dict(line.split("|", 1) for line in lines)

    def finished(self) -> list[dict[str, str]]:
        """SLURM's own record of each finished job: JobId, JobState, NodeList, ..."""
        file = self.folder / "completed.log"
        lines = file.read_text().splitlines() if file.exists() else []
        return [dict(p.split("=", 1) for p in line.split() if "=" in p) for line in lines]

    def tasks(self) -> list[Task]:
        """Every process that SLURM has started for a job, and that has ended."""
        starts: dict[str, list[str]] = {}
        tasks = []
        for line in (self.folder / "tasks.log").read_text().splitlines():
            event, step, job, node, devices, moment = line.split()
            if event == "start":
                starts[step] = [job, node, devices, moment]
            elif step in starts:
                job, node, devices, start = starts.pop(step)
                tasks.append(Task(job, node, devices, float(start), float(moment)))
        return tasks


def missing_programs() -> list[str]:
    return [name for name in PROGRAMS if shutil.which(name, path=SEARCH) is None]


def install() -> str:
    """Install SLURM from the distribution's packages; the reason if that is not possible."""
    if os.geteuid() != 0:
        return "SLURM's daemons need root here"
    if not missing_programs():
        return ""
    if shutil.which("apt-get") is None:
        return f"{', '.join(missing_programs())} not found, and no apt-get to install them"
    wanted = ["apt-get", "install", "--yes", "--no-install-recommends", *PACKAGES]
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    for command in (wanted, ["apt-get", "update"], wanted):
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
        if not missing_programs():
            return ""
    return f"apt-get cannot install {' '.join(PACKAGES)}: {done.stderr.strip()[-500:]}"


@contextmanager
def running(folder: Path) -> Iterator[Cluster]:
    """A cluster in an empty folder whose path is short; ended and removed whatever happens."""
    cluster = Cluster(folder)
    socket_path = folder / "munge.sock"
    if len(str(socket_path)) > LONGEST_SOCKET:
        raise ValueError(f"{folder}: too long for a Unix socket")
    folder.chmod(0o755)
    _configure(folder, socket_path)
    try:
        with ExitStack() as stack:
            stack.callback(_end_processes, cluster)
            _munge(cluster, socket_path, stack)
            _daemon(cluster, stack, "slurmctld", "-D", "-i")
            for node in NODES:
                _daemon(cluster, stack, "slurmd", "-D", "-N", node)
            stack.callback(_end_jobs, cluster)
            _wait("nodes", lambda: _idle(cluster), folder)
            yield cluster
    finally:
        shutil.rmtree(folder)


def _configure(folder: Path, socket_path: Path) -> None:
    host = socket.gethostname().split(".")[0]
    port, *node_ports = _free_ports(1 + len(NODES))
    for name in ("bin", "devices", "state", "spool"):
        (folder / name).mkdir()
    options = f"""
    ClusterName=test
    SlurmctldHost={host}(127.0.0.1)
    SlurmctldPort={port}
    SlurmUser=root
    SlurmdUser=root
    AuthType=auth/munge
    AuthInfo=socket={socket_path}
    CredType=cred/munge
    StateSaveLocation={folder}/state
    SlurmdSpoolDir={folder}/spool/%n
    SlurmctldPidFile={folder}/slurmctld.pid
    SlurmdPidFile={folder}/slurmd-%n.pid
    SlurmctldLogFile={folder}/slurmctld.log
    SlurmdLogFile={folder}/slurmd-%n.log
    ProctrackType=proctrack/linuxproc
    TaskPlugin=task/none
    TaskProlog={folder}/bin/start
    TaskEpilog={folder}/bin/end
    MpiDefault=none
    MailProg=/bin/true
    SelectType=select/cons_tres
    SelectTypeParameters=CR_Core_Memory
    GresTypes=gpu
    SlurmdParameters=config_overrides
    ReturnToService=2
    AccountingStorageType=accounting_storage/none
    JobCompType=jobcomp/filetxt
    JobCompLoc={folder}/completed.log
    JobAcctGatherType=jobacct_gather/none
    MinJobAge=3600
    JobRequeue=1
    KillWait=5
    CompleteWait=0
    SchedulerType=sched/backfill
    SchedulerParameters=batch_sched_delay=0,sched_interval=1,bf_interval=1,sched_min_interval=0
    """
    lines = [line.strip() for line in options.split("\n") if line.strip()]
    for node, node_port in zip(NODES, node_ports, strict=True):
        lines.append(
            f"NodeName={node} NodeHostname={host} NodeAddr=127.0.0.1 Port={node_port} CPUs={CPUS}"
            f" RealMemory={MEMORY} Gres=gpu:{GPUS} State=UNKNOWN"
        )
    lines.append(f"PartitionName=main Nodes={','.join(NODES)} Default=YES State=UP")
    (folder / "slurm.conf").write_text("\n".join(lines) + "\n")
    (folder / "gres.conf").write_text(
        f"AutoDetect=off\nName=gpu File={folder}/devices/gpu[0-{GPUS - 1}]\n"
    )
    for number in range(GPUS):
        (folder / f"devices/gpu{number}").symlink_to("/dev/null")
    _script(folder / "bin/start", _record(folder, "start"))
    _script(folder / "bin/end", _record(folder, "end"))
    # Snakemake's job step takes SLURM_CONF out of the environment, because it looks like a job's.
    for name in ("srun", "scontrol"):
        program = shutil.which(name, path=SEARCH)
        _script(folder / f"bin/{name}", f'SLURM_CONF="{folder}/slurm.conf" exec {program} "$@"')


def _record(folder: Path, event: str) -> str:
    """A line for each process of a job; SLURM calls it beside the process, with its environment."""
    step = "$SLURM_JOB_ID.$SLURM_STEP_ID.$SLURM_RESTART_COUNT"
    fields = f"{event} {step} $SLURM_JOB_ID $SLURMD_NODENAME ${{CUDA_VISIBLE_DEVICES:--}}"
    return f'echo "{fields} $(date +%s.%N)" >> "{folder}/tasks.log"'


def _script(path: Path, line: str) -> None:
    path.write_text(f"#!/bin/sh\n{line}\n")
    path.chmod(0o755)


def _free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for free in sockets:
            free.bind(("127.0.0.1", 0))
        return [free.getsockname()[1] for free in sockets]


def _munge(cluster: Cluster, socket_path: Path, stack: ExitStack) -> None:
    folder = cluster.folder
    cluster.call("mungekey", "--create", f"--keyfile={folder}/munge.key")
    files = {"key": "key", "pid": "pid", "log": "log", "seed": "seed"}
    options = [f"--{name}-file={folder}/munge.{ending}" for name, ending in files.items()]
    _daemon(cluster, stack, "munged", "--foreground", f"--socket={socket_path}", *options)
    _wait("munged", socket_path.exists, folder)


def _daemon(cluster: Cluster, stack: ExitStack, *command: str) -> None:
    """Start a daemon in the foreground, and end it with the stack."""
    log = stack.enter_context((cluster.folder / "daemons.log").open("a"))
    process = subprocess.Popen(command, env=cluster.environment, stdout=log, stderr=log, cwd="/")
    stack.callback(_end, process)


def _end(process: "subprocess.Popen[bytes]") -> None:
    process.terminate()
    try:
        process.wait(timeout=15)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _idle(cluster: Cluster) -> bool:
    command = ("sinfo", "--noheader", "--Node", "--format=%N %t")
    done = subprocess.run(command, env=cluster.environment, capture_output=True, text=True)
    return done.stdout.split("\n")[:-1] == [f"{node} idle" for node in NODES]


def _wait(what: str, ready: Callable[[], bool], folder: Path, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not ready():
        if time.monotonic() > deadline:
            logs = "".join(log.read_text()[-2000:] for log in sorted(folder.glob("*.log")))
            raise TimeoutError(f"{what} not ready in {seconds} s\n{logs}")
        time.sleep(0.1)


def _end_jobs(cluster: Cluster) -> None:
    if jobs := list(cluster.active()):
        cluster.call("scancel", "--full", *jobs)
        _wait("the end of all jobs", lambda: not cluster.active(), cluster.folder)


def _end_processes(cluster: Cluster) -> None:
    """What is left of jobs and of Snakemakes: all that have this cluster in their environment."""
    mark = f"SLURM_CONF={cluster.folder}/slurm.conf".encode()
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if mark in (process / "environ").read_bytes().split(b"\0"):
                os.kill(int(process.name), signal.SIGKILL)
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            continue
