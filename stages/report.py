"""One self-contained page for an experiment: scores of all stages, plots, pictures, times."""

import logging
from collections.abc import Sequence
from pathlib import Path

from stages.config.experiment import Experiment
from stages.metrics.failures import GROUPS
from stages.reporting import pipeline as steps
from stages.reporting import table
from stages.reporting.analysis import Analysis, analyze
from stages.reporting.breakdown import GROUP_COLORS
from stages.reporting.curves import loss_curve
from stages.reporting.departures import departures
from stages.reporting.examples import Examples, Shards
from stages.reporting.page import write_page
from stages.reporting.scored import Scored, by_split, read_scored
from stages.runtime.command_line import main
from stages.runtime.errors import InputError
from stages.storage.files import read_json, replacing
from stages.storage.tables import read_samples

# Shown by kind of expression: with all stages the intervals would cover each other.
BROKEN_DOWN = ("stage1", "prms", "pseudo", "segmentor")

log = logging.getLogger(__name__)


def run(
    name: str,
    experiment: Experiment,
    samples: Path,
    metrics: list[Path],
    results: list[Path],
    losses: list[Path],
    predictions: list[Path],
    report: Path,
    scores: Path,
    pipeline: steps.Pipeline | None = None,
    prms: Sequence[Path] = (),
    labels: Sequence[Path] = (),
    pseudo: Sequence[Path] = (),
    upper_bound: Sequence[Path] = (),
    note: str | None = None,
) -> None:
    """`results` belong to `metrics`, one by one; the shards of `predictions` to `upper_bound` are
    the columns of the pictures; `note` is a line that belongs to all scores.
    """
    scored = read_scored(metrics, results)
    entries, label = [one.about for one in scored], table.label_in_report(name)
    figures = {name: experiment.figures}
    text = table.text_table(entries, label, figures) + (f"{note}\n" if note else "")
    own = _own(scored, name, experiment.evaluation.splits[0])
    shards = Shards(predictions, prms, labels, pseudo, upper_bound)
    examples = Examples(read_samples(samples), shards, own.expressions)
    pipeline = pipeline or steps.Pipeline()
    write_page(
        report,
        "report.html",
        name=name,
        experiment=experiment,
        note=note,
        own=own.about,
        columns=table.columns(entries),
        table=table.rows(entries, label, figures),
        analyses=_analyses(scored, name, experiment.evaluation.splits),
        curves=[loss_curve(_title(path), read_json(path)) for path in losses],
        parts_of_examples=examples.parts(experiment.report.examples),
        failures=examples.failures(),
        groups=GROUPS,
        group_colors=GROUP_COLORS,
        graph=steps.draw(pipeline, name) if pipeline.steps else None,
        times=steps.step_rows(pipeline),
        facts=steps.fact_rows(pipeline),
        departures=departures(experiment),
    )
    with replacing(scores) as temporary:
        temporary.write_text(text)
    log.info("%s", text)


def _own(scored: Sequence[Scored], name: str, split: str) -> Scored:
    """What the experiment is about: its segmentor on the first split."""
    wanted = {"experiment": name, "what": "segmentor", "split": split}
    found = [one for one in scored if wanted.items() <= one.about.items()]
    if not found:
        raise InputError(f"metrics: none of them is the segmentor of {name} on {split}; needed it")
    return found[0]


def _analyses(scored: Sequence[Scored], name: str, splits: Sequence[str]) -> list[Analysis]:
    label = table.label_in_report(name)
    everything = by_split(scored, label, left_out=table.BASELINES)
    chosen = by_split([one for one in scored if one.what in BROKEN_DOWN], label)
    shown = [split for split in splits if split in everything]
    return [analyze(split, everything[split], chosen[split]) for split in shown]


def _title(losses: Path) -> str:
    stage = losses.parent
    return f"{stage.parent.name}: {stage.name}"


if __name__ == "__main__":
    main(run)
