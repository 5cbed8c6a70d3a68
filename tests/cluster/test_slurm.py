"""The whole demo on SLURM, through the profile that users start from, and what breaks there.

Every job, its node and its devices are read from SLURM's own records.
"""

import itertools
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import chdir, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from stages.config.catalog import Catalog, contents_of
from stages.config.load import load_configs
from tests.cluster.slurm import CPUS, NODES, Cluster, Task, install, running
from tests.conftest import file_hash, link_workflow, small_demo

HOUR = 3600
pytestmark = [pytest.mark.cluster, pytest.mark.timeout(HOUR)]

LONG = {"epochs": 40}  # trainings that are interrupted
SEGMENTORS = {
    "scancel": "refshapes_tris_masks",  # by what happens to its training
    "requeue": "refshapes_tris",
}


@dataclass(frozen=True)
class Site:
    """A folder with the workflow in it, on a cluster."""

    folder: Path
    cluster: Cluster

    def segmentor(self, experiment: str) -> Path:
        """The file of an experiment's segmentor, below the folder."""
        configs, results = load_configs(self.folder / "configs"), self.folder / "results"
        with chdir(self.folder):  # which weights are named from
            catalog = Catalog(configs, results, contents_of(results))
            product = catalog.products.of_experiment(experiment)["segmentor"]
        return Path("results") / product.folder / "model.safetensors"

    def command(self, *arguments: str) -> list[str]:
        """Run as users do, but look at jobs often and know that these nodes are small."""
        return [
            str(Path(sys.executable).parent / "snakemake"),
            *("--workflow-profile", "workflow/profiles/slurm", "--cores", str(CPUS)),
            *("--latency-wait", "10", "--slurm-init-seconds-before-status-checks", "1"),
            *arguments,
        ]

    def call(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run Snakemake to its end."""
        return subprocess.run(
            self.command(*arguments),
            cwd=self.folder,
            env=self.cluster.environment,
            capture_output=True,
            text=True,
            timeout=HOUR,
        )

    @contextmanager
    def controller(self, *arguments: str) -> "Iterator[subprocess.Popen[bytes]]":
        """A Snakemake that runs beside the test; its output is in controller.log."""
        with (self.folder / "controller.log").open("ab") as log:
            process = subprocess.Popen(
                self.command(*arguments),
                cwd=self.folder,
                env=self.cluster.environment,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
            try:
                yield process
            finally:
                if process.poll() is None:
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()


@dataclass(frozen=True)
class Interrupted:
    """What was seen while two trainings were interrupted in every way."""

    before: dict[str, str]  # experiment -> hash of the weights of the unbroken training
    orphans: dict[str, str]  # jobs that ran on without their Snakemake: id -> rule
    second: dict[str, str]  # jobs of the restart
    message: dict[str, str]  # experiment -> log of its training


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    if reason := install():
        (pytest.fail if os.environ.get("CI") else pytest.skip)(reason)
    folder = tmp_path_factory.mktemp("site")
    link_workflow(folder)
    demo = small_demo(folder)
    demo.edit("experiments/refshapes_tris.yaml", shards=2, segmentor=LONG)
    demo.edit("experiments/refshapes_tris_masks.yaml", segmentor=LONG)
    with running(Path(tempfile.mkdtemp(prefix="slurm-"))) as cluster:
        yield Site(folder, cluster)


@pytest.fixture(scope="module")
def demo(site: Site) -> Site:
    """The demo, finished on the cluster."""
    done = site.call("demo")
    assert done.returncode == 0, done.stderr[-5000:]
    return site


@pytest.fixture(scope="module")
def interrupted(demo: Site) -> Interrupted:
    """Two finished trainings, done again: Snakemake is killed, then each job is interrupted."""
    models = {how: demo.folder / demo.segmentor(name) for how, name in SEGMENTORS.items()}
    before = {how: file_hash(model) for how, model in models.items()}
    for model in models.values():
        model.unlink()
    targets = [str(model.relative_to(demo.folder)) for model in models.values()]
    with demo.controller(*targets) as killed:
        wait_until(lambda: all(state_of(model).exists() for model in models.values()))
        killed.kill()
    orphans = demo.cluster.active()
    assert demo.call("--unlock", *targets).returncode == 0
    with demo.controller(*targets) as restarted:
        wait_until(lambda: all("continues at" in log_of(model) for model in models.values()))
        second = demo.cluster.active()
        jobs = {how: only_job(second, model) for how, model in models.items()}
        demo.cluster.call("scancel", jobs["scancel"])
        demo.cluster.call("scontrol", "requeue", jobs["requeue"])
        wait_until(lambda: "JobState=PENDING" in show(demo.cluster, jobs["requeue"]))
        demo.cluster.call("scontrol", "update", f"jobid={jobs['requeue']}", "StartTime=now")
        assert restarted.wait(timeout=HOUR) == 0, (demo.folder / "controller.log").read_text()
    message = {how: log_of(model) for how, model in models.items()}
    return Interrupted(before, orphans, second, message)


def test_the_demo_runs_in_fewer_jobs_than_steps_and_all_succeed(demo: Site) -> None:
    jobs = demo.cluster.finished()
    assert {job["JobState"] for job in jobs} == {"COMPLETED"}
    steps = list((demo.folder / "results").rglob("*.tsv"))  # each step leaves its benchmark
    assert len(jobs) < 0.7 * len(steps)


def test_steps_that_need_a_gpu_have_one_each_on_both_nodes(demo: Site) -> None:
    on_gpu = {task for task in demo.cluster.tasks() if task.devices in ("0", "1")}
    assert {task.node for task in on_gpu} == set(NODES)
    steps = re.findall(r"Comment=rule_(\w+?)_wildcards\S*.*TresPerJob=gres:gpu:1", shown(demo))
    assert set(steps) == {
        "train_stage1",
        "select_maps",
        "make_labels",
        "train_affinity",
        "propagate",
        "train_segmentor",
        "predict",
    }


def test_jobs_at_the_same_time_have_distinct_devices(demo: Site) -> None:
    on_gpu = [task for task in demo.cluster.tasks() if task.devices in ("0", "1")]
    together = [
        (one, other)
        for one, other in itertools.combinations(on_gpu, 2)
        if one.job != other.job and overlap(one, other)
    ]
    assert together
    for one, other in together:
        assert (one.node, one.devices) != (other.node, other.devices)


def test_jobs_outlive_a_killed_snakemake_and_end_when_the_next_one_starts(
    demo: Site, interrupted: Interrupted
) -> None:
    assert len(interrupted.orphans) == len(SEGMENTORS)
    records = {job["JobId"]: job for job in demo.cluster.finished()}
    ends = [records[job]["EndTime"] for job in interrupted.orphans]
    starts = [re.search(r"StartTime=(\S+)", show(demo.cluster, job)) for job in interrupted.second]
    assert {records[job]["JobState"] for job in interrupted.orphans} == {"CANCELLED"}
    assert all(start is not None and max(ends) <= start[1] for start in starts)


@pytest.mark.parametrize("how", SEGMENTORS)
def test_an_interrupted_training_continues_to_the_same_weights(
    demo: Site, interrupted: Interrupted, how: str
) -> None:
    continued = re.search(r"continues at step (\d+)", interrupted.message[how])
    assert continued is not None and int(continued[1]) > 0
    model = demo.folder / demo.segmentor(SEGMENTORS[how])
    assert file_hash(model) == interrupted.before[how]


def test_a_canceled_job_is_submitted_again_and_a_requeued_one_is_the_same_job(
    demo: Site, interrupted: Interrupted
) -> None:
    canceled = only_job(interrupted.second, demo.segmentor(SEGMENTORS["scancel"]))
    requeued = only_job(interrupted.second, demo.segmentor(SEGMENTORS["requeue"]))
    states = {job["JobId"]: job["JobState"] for job in demo.cluster.finished()}
    assert states[canceled] == "CANCELLED"
    assert states[requeued] == "COMPLETED"
    assert "Restarts=1" in show(demo.cluster, requeued)


def test_a_job_that_is_tried_again_asks_for_more_memory_and_time(
    demo: Site, interrupted: Interrupted
) -> None:
    canceled = only_job(interrupted.second, demo.segmentor(SEGMENTORS["scancel"]))
    same_rule = re.search(r"Comment=\S+", show(demo.cluster, canceled))
    assert same_rule is not None
    lines = [line for line in shown(demo).splitlines() if same_rule[0] in line.split()]
    again = max(lines, key=lambda line: int(line.split()[0].removeprefix("JobId=")))
    before = show(demo.cluster, canceled)
    assert [asked(again, name) for name in ("mem", "minutes")] == [
        2 * asked(before, name) for name in ("mem", "minutes")
    ]


def test_nothing_is_left_to_do_afterwards(demo: Site, interrupted: Interrupted) -> None:
    targets = [str(demo.segmentor(name)) for name in SEGMENTORS.values()]
    done = demo.call("--dry-run", *targets)
    assert "Nothing to be done" in done.stdout + done.stderr


def overlap(one: Task, other: Task) -> bool:
    return one.start < other.end and other.start < one.end


def state_of(model: Path) -> Path:
    return model.with_suffix(".state.pt")


def log_of(model: Path) -> str:
    """What a training has said; Snakemake removes the log before it starts the job anew."""
    log = model.parent / "train_segmentor.log"
    return log.read_text() if log.exists() else ""


def only_job(jobs: dict[str, str], model: Path) -> str:
    """The id of the job that makes a model, as Snakemake calls it: rule_..._wildcards_..."""
    ids = [job for job, name in jobs.items() if name.endswith(f"wildcards_{model.parent.name}")]
    assert len(ids) == 1, jobs
    return ids[0]


def show(cluster: Cluster, job: str) -> str:
    return cluster.call("scontrol", "--details", "--oneliner", "show", "job", job)


def shown(site: Site) -> str:
    return site.cluster.call("scontrol", "--details", "--oneliner", "show", "jobs")


def asked(job: str, name: str) -> int:
    """Megabytes of memory, or minutes, that a job asked for, as scontrol shows them."""
    pattern = {"mem": r"MinMemoryNode=(\d+)M", "minutes": r"TimeLimit=(\d+:\d+):00"}[name]
    match = re.search(pattern, job)
    assert match is not None, job
    hours, _, rest = match[1].rpartition(":")
    return 60 * int(hours or 0) + int(rest)


def wait_until(ready: Callable[[], bool], seconds: float = 600) -> None:
    deadline = time.monotonic() + seconds
    while not ready():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)


def test_a_training_runs_on_the_gpus_of_two_nodes(demo: Site) -> None:
    experiments = demo.folder / "configs/experiments"
    masks = (experiments / "refshapes_tris_masks.yaml").read_text()
    brief = re.sub(r"epochs: \d+", "epochs: 3", masks)  # others than the demo's
    (experiments / "two_nodes.yaml").write_text(brief)
    before = {job["JobId"] for job in demo.cluster.finished()}
    model = str(demo.segmentor("two_nodes"))
    asked = [f"train_segmentor:{each}" for each in ("gpu=2", "nodes=2", "tasks=2")]
    done = demo.call(model, "--set-resources", *asked, "train_segmentor:mpi=srun")
    assert done.returncode == 0, done.stderr[-5000:]
    folder = (demo.folder / model).parent
    assert json.loads((folder / "run.json").read_text())["processes"] == 2
    assert (folder / "train_segmentor.log").read_text().count("on GPU") == 2
    (job,) = (job for job in demo.cluster.finished() if job["JobId"] not in before)
    assert job["NodeList"] == "n[1-2]"
