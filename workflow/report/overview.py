"""The first page of Snakemake's report: its pages with their scores, and a graph of the rules.

Snakemake's own graph has a node for each rule at each depth of the DAG. Here a rule is one box,
however many jobs it has. What this reads of Snakemake is not documented: files of the report (path
and job) and the DAG (jobs and dependencies).
"""

from graphlib import TopologicalSorter
from pathlib import Path
from typing import Any

from stages.reporting.page import fill
from stages.reporting.pipeline import PipelineStep, direct_needs, draw


def draw_overview(files: list[Any]) -> str:
    """HTML of the pages in a report, and of the rules behind them."""
    pages = [
        {
            "path": str(file.path),
            "name": next(iter(file.labels.values())),
            "scores": file.path.with_name("scores.txt").read_text(),
        }
        for file in files
    ]
    return fill("overview.html", pages=pages, graph=draw(rule_steps(files[0].job.dag)))


def rule_steps(dag: Any) -> list[PipelineStep]:
    """The rules of a DAG that compute, each after those that it needs."""
    jobs: dict[str, list[Any]] = {}
    for job in dag.jobs:
        if job.benchmark:  # targets, downloads and links have none
            jobs.setdefault(job.rule.name, []).append(job)
    sources = {
        rule: {
            need.rule.name
            for job in of_rule
            for need in dag.dependencies[job]
            if need.benchmark and need.rule.name != rule  # a training may start from another one
        }
        for rule, of_rule in jobs.items()
    }
    ordered = [*TopologicalSorter(sources).static_order()]
    needs = direct_needs({rule: sorted(sources[rule], key=ordered.index) for rule in ordered})
    return [
        PipelineStep(
            name=rule,
            title=_title(rule, len(jobs[rule])),
            owner="own",
            needs=tuple(needs[rule]),
            folders=tuple(dict.fromkeys(Path(str(job.benchmark)).parent for job in jobs[rule])),
        )
        for rule in ordered
    ]


def _title(rule: str, num_jobs: int) -> str:
    title = rule.replace("_", " ")
    return title if num_jobs == 1 else f"{title} x {num_jobs}"
