"""How long what is left will take, by what Snakemake measured of earlier jobs of the same step.

A job takes as long as the earlier one whose size is nearest, times the ratio of their sizes.
"""

import re
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean
from typing import Literal, NamedTuple, Protocol

from risflow.status.plan import Job
from risflow.status.progress import State, training_progress

# What an estimate goes by: the job's own progress, or that it is done; jobs of the same size; those
# of another size, in proportion; jobs whose size, or that of this one, is not known.
Basis = Literal["own", "same size", "scaled", "not scaled"]


class Estimate(NamedTuple):
    """How long a job takes, or has left."""

    seconds: float
    basis: Basis


class Sizes(Protocol):
    """What a job has to do, by its benchmark file: see JobSizes."""

    def size(self, benchmark: Path) -> float | None: ...

    def model(self, benchmark: Path) -> str | None: ...


class Forecast(NamedTuple):
    """Seconds of what is left; a job that nothing is known of counts as none."""

    at_least: float  # with everything at once that does not wait for another
    at_most: float  # with one job at a time
    scaled: list[str]  # steps whose time is that of jobs of another size, in proportion
    not_scaled: list[str]  # steps whose time is that of other jobs, whatever their size
    unknown: list[str]  # steps of which no job ever ended


def forecast(jobs: Sequence[Job], left: Sequence[Estimate | None]) -> Forecast:
    """The time left of all jobs by that of each; each comes after those that it waits for."""
    ends: dict[str, float] = {}  # by log: from now until the job ends
    steps: dict[Basis | None, dict[str, None]] = {}  # in the order of jobs, each once
    for job, own in zip(jobs, left, strict=True):
        seconds = own.seconds if own is not None else 0.0
        ends[job.log] = seconds + max((ends[need] for need in job.needs), default=0.0)
        steps.setdefault(own.basis if own is not None else None, {})[job.rule] = None
    return Forecast(
        at_least=max(ends.values(), default=0.0),
        at_most=sum(own.seconds for own in left if own is not None),
        scaled=list(steps.get("scaled", ())),
        not_scaled=list(steps.get("not scaled", ())),
        unknown=list(steps.get(None, ())),
    )


class History:
    """What the jobs of each step took, in all experiments."""

    def __init__(self, results: Path, sizes: Sizes) -> None:
        self.results, self.sizes = results, sizes
        self.known: dict[str, dict[Path, float]] = {}  # by pattern of the benchmark files

    def left(self, job: Job, state: State) -> Estimate | None:
        """Of a running job what it says itself, else what earlier ones took; None if unknown."""
        if state == "done":
            return Estimate(0.0, "own")
        if state == "running" and (training := training_progress(job.log)):
            return Estimate(training.seconds_left, "own")
        estimate = self.like_earlier(job)
        if estimate is None or state != "running" or job.started is None:
            return estimate
        since = time.time() - job.started
        return estimate._replace(seconds=max(0.0, estimate.seconds - since))

    def like_earlier(self, job: Job) -> Estimate | None:
        """By its own last run; else by jobs of the same product, of the same model, of its step."""
        own = Path(job.benchmark)
        every = self._step(pattern(own, job.wildcards, self.results))
        if own in every:
            return Estimate(every[own], "same size")
        if not every:
            return None
        here = {path: seconds for path, seconds in every.items() if path.parent == own.parent}
        model = self.sizes.model(own)
        alike = {path: s for path, s in every.items() if self.sizes.model(path) == model}
        return self._of_nearest_size(self.sizes.size(own), here or alike or every)

    def _of_nearest_size(self, size: float | None, earlier: Mapping[Path, float]) -> Estimate:
        """The mean of the earlier jobs of the nearest size, in proportion to it."""
        by_size: dict[float, list[float]] = {}
        for path, seconds in earlier.items():
            if of_path := self.sizes.size(path):
                by_size.setdefault(of_path, []).append(seconds)
        if not size or not by_size:
            return Estimate(mean(earlier.values()), "not scaled")
        nearest = min(by_size, key=lambda known: max(known / size, size / known))
        seconds = mean(by_size[nearest]) * size / nearest
        return Estimate(seconds, "same size" if size == nearest else "scaled")

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
