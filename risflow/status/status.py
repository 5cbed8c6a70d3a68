"""Where a target stands: its jobs by step, what runs, what failed, what is left."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from risflow.project.references import read_catalog
from risflow.project.run_options import DEFAULTS, RunOptions
from risflow.status.forecast import Estimate, History, forecast, measured
from risflow.status.job_size import JobSizes
from risflow.status.plan import Job, read_plan
from risflow.status.progress import State, find_run, find_states, last_lines, training_progress
from stages.config.load import Configs
from stages.config.variants import parse_changes
from stages.reporting.pipeline import duration

SHOWN = 5  # last lines of the log of a failed job
LOCKED = (
    "Snakemake has this folder locked, by no process of this machine: what is said to run does so"
    " only if that run is alive on another one; if it was killed: snakemake --unlock"
)
COLUMNS: dict[str, tuple[State, ...]] = {
    "done": ("done",),
    "running": ("running",),
    "waiting": ("waiting", "submitted"),
    "failed": ("failed",),
}


@dataclass(frozen=True)
class JobStatus:
    """What has become of a job."""

    job: Job
    state: State
    took: float | None  # seconds, if it is done
    left: Estimate | None  # None if nobody knows


@dataclass(frozen=True)
class Status:
    """The jobs of a target, each after those that it waits for."""

    target: str
    run: Literal["here", "locked", "none"]  # as find_run has it
    jobs: list[JobStatus]

    def of_state(self, state: State) -> list[JobStatus]:
        return [job_status for job_status in self.jobs if job_status.state == state]


def find_status(target: str, configs: Configs, options: RunOptions = DEFAULTS) -> Status:
    """Raises InputError where Snakemake cannot plan the target, as without its data."""
    run, jobs = find_run(), read_plan(target, options)
    catalog = read_catalog(configs, parse_changes(options.changes))
    history = History(configs.settings.results, JobSizes(catalog))
    states = zip(jobs, find_states(jobs, run != "none"), strict=True)
    standings = [
        JobStatus(
            job,
            state,
            took=measured(Path(job.benchmark)) if state == "done" else None,
            left=history.left(job, state),
        )
        for job, state in states
    ]
    return Status(target, run, standings)


def values(status: Status) -> dict[str, Any]:
    """The status as JSON values; times are seconds."""
    jobs = [
        {
            "step": job_status.job.rule,
            "log": job_status.job.log,
            "state": job_status.state,
            "took": job_status.took,
            "left": job_status.left.seconds if job_status.left is not None else None,
            "left_by": job_status.left.basis if job_status.left is not None else None,
            "last_lines": last_lines(job_status.job.log, SHOWN)
            if job_status.state == "failed"
            else [],
        }
        for job_status in status.jobs
    ]
    left = forecast(
        [job_status.job for job_status in status.jobs],
        [job_status.left for job_status in status.jobs],
    )
    return {
        "target": status.target,
        "run": status.run,
        "jobs": jobs,
        "left": left._asdict(),
    }


def show(status: Status, out: Console, notes: Console) -> None:
    """A line a step, then what runs, what failed, and the time left."""
    out.print(_table(status.jobs))
    for job_status in status.of_state("running"):
        out.print(f"\nruns: {job_status.job.log}: {_progress(job_status)}", markup=False)
    if submitted := status.of_state("submitted"):
        out.print(f"\nsubmitted to a cluster and not begun: {len(submitted)}")
    for job_status in status.of_state("failed"):
        out.print(
            f"\nfailed: {job_status.job.log}{_kept(job_status.job)}", markup=False, style="red"
        )
        for line in last_lines(job_status.job.log, SHOWN):
            out.print(f"    {line}", markup=False)
    out.print(f"\n{_left(status)}", markup=False)
    if status.run == "locked":
        notes.print(LOCKED, markup=False)


def _table(jobs: list[JobStatus]) -> Table:
    table = Table(box=None, pad_edge=False)
    table.add_column("step")
    for name in (*COLUMNS, "took", "left"):
        table.add_column(name, justify="right")
    last = {job_status.job.rule: number for number, job_status in enumerate(jobs)}
    for step in sorted(last, key=last.__getitem__):  # in the order of the pipeline
        own = [job_status for job_status in jobs if job_status.job.rule == step]
        counts = [
            sum(job_status.state in group for job_status in own) for group in COLUMNS.values()
        ]
        cells = [str(count) if count else "-" for count in counts]
        table.add_row(escape(step), *cells, *_times(own))
    return table


def _times(jobs: list[JobStatus]) -> tuple[str, str]:
    """What those took that are done, and what the others will take."""
    took = [job_status.took for job_status in jobs if job_status.took is not None]
    left = [job_status.left for job_status in jobs if job_status.state != "done"]
    known = [estimate.seconds for estimate in left if estimate is not None]
    if not left:
        return duration(sum(took)) if took else "-", "-"
    return (
        duration(sum(took)) if took else "-",
        duration(sum(known)) if len(known) == len(left) else "unknown",
    )


def _progress(job_status: JobStatus) -> str:
    training = training_progress(job_status.job.log)
    steps = f"step {training.step} of {training.total}, " if training else ""
    return steps + (
        "time left unknown"
        if job_status.left is None
        else f"{duration(job_status.left.seconds)} left"
    )


def _kept(job: Job) -> str:
    states = [Path(path).with_suffix(".state.pt") for path in job.outputs]
    return " (goes on from its last state)" if any(path.exists() for path in states) else ""


def _left(status: Status) -> str:
    jobs = status.jobs
    done = len(status.of_state("done"))
    if done == len(jobs):
        return f"{status.target}: done"
    count = f"{status.target}: {done} of {len(jobs)} jobs done"
    left = forecast(
        [job_status.job for job_status in jobs], [job_status.left for job_status in jobs]
    )
    if not left.at_most:
        return f"{count}; how long the others take is not known yet"
    lines = [
        f"{count}; left, like earlier runs:",
        f"{duration(left.at_least)} if all that can runs at once,"
        f" {duration(left.at_most)} one after the other",
    ]
    by = {
        "scaled by the size of the data": left.scaled,
        "not scaled by the size of the data": left.not_scaled,
        "not counted, for want of an earlier run": left.unknown,
    }
    lines += [f"{how}: {', '.join(steps)}" for how, steps in by.items() if steps]
    return "\n".join(lines)
