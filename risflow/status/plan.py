"""Every job of a target, as Snakemake plans it: `python -m risflow.status.plan TARGET` prints JSON.

Words after the target are those of --config.

A process of its own, since Snakemake changes its logging, paths and environment. Nothing is locked
and no file is written, so that a run may be active. All that depends on Snakemake's inside is here.
"""

import json
import logging
import re
import subprocess
import sys
from contextlib import redirect_stdout
from io import StringIO
from typing import Any, NamedTuple

from risflow.project.run_options import DEFAULTS, RunOptions
from stages.runtime.errors import InputError

OWN_WORDS = re.compile(r"WorkflowError: (.+?) Wildcards:")  # of an input that refuses


class Job(NamedTuple):
    """One job: a step on some files."""

    rule: str
    log: str
    benchmark: str
    outputs: list[str]
    wildcards: dict[str, str]
    needs: list[str]  # logs of the jobs that it waits for
    to_do: bool  # not done yet, or to be done again
    started: float | None  # when Snakemake began it, if it has not seen its end


def read_plan(target: str, options: RunOptions = DEFAULTS) -> list[Job]:
    """The jobs of a target in the folder of a project, each after those that it waits for.

    Raises InputError with what Snakemake says if it cannot plan them.
    """
    command = [sys.executable, "-m", "risflow.status.plan", target, *options.words]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        message = " ".join(done.stderr.split())
        own = OWN_WORDS.search(message)
        raise InputError(own[1] if own else f"{target} cannot be planned: {message}")
    return [Job(**job) for job in json.loads(done.stdout)]


def main(target: str, *config: str) -> int:
    """Print the jobs; on failure, Snakemake's words on stderr. `config` is that of --config."""
    from snakemake.api import SnakemakeApi
    from snakemake.settings.enums import RerunTrigger
    from snakemake.settings.types import (
        ConfigSettings,
        DAGSettings,
        OutputSettings,
        ResourceSettings,
    )

    quiet = OutputSettings(dryrun=True, log_level_override=logging.ERROR, nocolor=True)
    with SnakemakeApi(quiet) as api:
        try:
            options = ConfigSettings(config=dict(word.split("=", 1) for word in config))
            workflow = api.workflow(ResourceSettings(cores=1), config_settings=options)
            settings = DAGSettings(targets={target}, rerun_triggers={RerunTrigger.MTIME})
            with redirect_stdout(StringIO()):
                workflow.dag(settings).summary()
            jobs = _jobs(workflow._workflow)
        except Exception as error:
            api.print_exception(error)
            return 1
    print(json.dumps([job._asdict() for job in jobs]))
    return 0


def _jobs(workflow: Any) -> list[Job]:
    dag = workflow.dag
    # Targets, downloads and links have no benchmark.
    ordered = [job for layer in dag.toposorted() for job in layer if job.benchmark]
    return [
        Job(
            rule=job.rule.name,
            log=str(job.log[0]),
            benchmark=str(job.benchmark),
            outputs=[str(path) for path in job.output],
            wildcards=dict(job.wildcards.items()),
            needs=[str(other.log[0]) for other in dag.dependencies[job] if other.benchmark],
            to_do=dag.needrun(job),
            started=_started(job, workflow.persistence),
        )
        for job in ordered
    ]


def _started(job: Any, persistence: Any) -> float | None:
    marked = persistence._filter_incomplete_keys([str(path) for path in job.output])
    return min(map(persistence._get_recorded_starttime, marked), default=None)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
