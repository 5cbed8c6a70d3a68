"""How long what is left will take, by what Snakemake measured of earlier jobs of the same step."""

import re
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean
from typing import NamedTuple

from risflow.status.plan import Job
from risflow.status.progress import State, training_progress


class Forecast(NamedTuple):
    """Seconds of what is left; a job that nothing is known of counts as none."""

    at_least: float  # with everything at once that does not wait for another
    at_most: float  # with one job at a time
    unknown: list[str]  # steps of which no job ever ended


def forecast(jobs: Sequence[Job], seconds: Sequence[float | None]) -> Forecast:
    """The time left of all jobs by that of each; each comes after those that it waits for."""
    ends: dict[str, float] = {}  # by log: from now until the job ends
    for job, own in zip(jobs, seconds, strict=True):
        ends[job.log] = (own or 0.0) + max((ends[need] for need in job.needs), default=0.0)
    unknown = [job.rule for job, own in zip(jobs, seconds, strict=True) if own is None]
    together = sum(own or 0.0 for own in seconds)
    return Forecast(max(ends.values(), default=0.0), together, list(dict.fromkeys(unknown)))


class History:
    """What the jobs of each step took, in all experiments."""

    def __init__(self, results: Path) -> None:
        self.results = results
        self.known: dict[str, dict[Path, float]] = {}  # by pattern of the benchmark files

    def seconds_left(self, job: Job, state: State) -> float | None:
        """Of a running job what it says itself, else what earlier ones took; None if unknown."""
        if state == "done":
            return 0.0
        if state == "running" and (training := training_progress(job.log)):
            return training.seconds_left
        seconds = self.like_earlier(job)
        if seconds is None or state != "running" or job.started is None:
            return seconds
        return max(0.0, seconds - (time.time() - job.started))

    def like_earlier(self, job: Job) -> float | None:
        """Seconds of its own last run; else the mean of its step here, else anywhere."""
        own = Path(job.benchmark)
        every = self._step(pattern(own, job.wildcards, self.results))
        here = [seconds for path, seconds in every.items() if path.parent == own.parent]
        if own in every:
            return every[own]
        return mean(here or every.values()) if every else None

    def _step(self, files: str) -> dict[Path, float]:
        if files not in self.known:
            durations = {path: measured(path) for path in sorted(self.results.glob(files))}
            self.known[files] = {path: s for path, s in durations.items() if s is not None}
        return self.known[files]


def pattern(benchmark: Path, wildcards: Mapping[str, str], results: Path) -> str:
    """The benchmarks of a step, for `results`.glob: `*` for what differs between its jobs."""
    text = f"/{benchmark.relative_to(results)}"
    for value in sorted(wildcards.values(), key=len, reverse=True):
        text = re.sub(rf"(?<=[/-]){re.escape(value)}(?=[/.-])", "*", text)
    return text.removeprefix("/")


def measured(benchmark: Path) -> float | None:
    """The seconds of a benchmark file of Snakemake; None for what is not there or not whole."""
    try:
        head, row = benchmark.read_text().splitlines()[:2]
        return float(dict(zip(head.split("\t"), row.split("\t"), strict=True))["s"])
    except (FileNotFoundError, ValueError, KeyError):
        return None
