"""One self-contained page for an experiment: scores of all stages, plots, examples, times."""

import logging
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from stages.config.baselines import BASELINES
from stages.config.experiment import Experiment
from stages.data.limits import describe_limits, unknown_in
from stages.data.text import load_tokenizer
from stages.reporting import table
from stages.reporting.analysis import Analysis, analyze
from stages.reporting.breakdown import GROUP_COLORS
from stages.reporting.browser import browse
from stages.reporting.curves import training_curves
from stages.reporting.departures import departures
from stages.reporting.examples import Examples, Shards
from stages.reporting.files import file_rows
from stages.reporting.page import write_page
from stages.reporting.pipeline import draw, provenance_rows, read_pipeline, step_rows
from stages.reporting.scored import Scored, by_split, read_scored
from stages.runtime.command_line import main
from stages.runtime.errors import InputError
from stages.storage.collapse import collapse_warnings
from stages.storage.files import read_json, replacing
from stages.storage.steps import read_steps
from stages.storage.tables import Samples, read_samples

# Shown by kind of expression: with all stages the intervals would cover each other.
BROKEN_DOWN = ("stage1", "maps", "pseudo_masks", "assigned", "segmentor")
VERSION = 2

log = logging.getLogger(__name__)


def run(
    steps: Path,
    experiment: Experiment,
    samples: Path,
    metrics: list[Path],
    results: list[Path],
    losses: list[Path],
    predictions: list[Path],
    report: Path,
    scores: Path,
    maps: Sequence[Path] = (),
    labels: Sequence[Path] = (),
    pseudo_masks: Sequence[Path] = (),
    assigned: Sequence[Path] = (),
    upper_bound: Sequence[Path] = (),
    taken_away: Sequence[Path] = (),
) -> None:
    """`steps` is the steps.yaml of the page; `metrics`, `results` and `losses` are in its order.

    The shards of `predictions` to `upper_bound` are the columns of the examples; `taken_away` are
    the records of images and masks that the page links to.
    """
    page = read_steps(steps)
    name, note, rows = page["name"], page["options"]["note"], page["options"]["rows"]
    scored = read_scored(metrics, results, [row[0] for row in rows])
    entries, label = [row.about for row in scored], table.label_in_report(name)
    figures = {name: experiment.figures}
    selection = page["options"].get("selection", "")
    pipeline = read_pipeline(steps)
    collapsed = collapse_warnings(folder for step in pipeline for folder in step.folders)
    everything = read_samples(samples)
    notes = [
        *(line for line in (note, selection) if line),
        *(f"warning: {line}" for line in collapsed),
        *_limits(experiment, everything.split(page["split"]), page["split"]),
    ]
    text = table.text_table(entries, label, figures) + "".join(f"{line}\n" for line in notes)
    own = _own(scored, name, page["split"])
    others = {"fully supervised": upper_bound} if upper_bound else {}
    shards = Shards(predictions, maps, labels, pseudo_masks, assigned, others)
    examples = Examples(everything, shards, own.expressions)
    curves = zip(page["trainings"], losses, strict=True)
    write_page(
        report,
        "report.html",
        name=name,
        experiment=experiment,
        selection=selection,
        notes=notes,
        own=own.about,
        columns=table.columns(entries),
        table=table.rows(entries, label, figures),
        analyses=_analyses(scored, name, experiment.evaluation.splits),
        curves=[svg for title, path in curves for svg in training_curves(title, read_json(path))],
        example_groups=examples.ranked(experiment.report.examples),
        browser=asdict(browse(examples, experiment.report.browser)),
        group_colors=GROUP_COLORS,
        graph=draw(pipeline) if pipeline else None,
        times=step_rows(pipeline),
        provenance=provenance_rows(pipeline),
        departures=departures(experiment),
        files=file_rows(page["links"], taken_away),
    )
    with replacing(scores) as temporary:
        temporary.write_text(text)
    log.info("%s", text)


def _limits(experiment: Experiment, shown: Samples, split: str) -> list[str]:
    """What a segmentor of the small CLIP cannot know of a split; nothing for other encoders."""
    clip = experiment.segmentor.clip
    if clip is None or not clip.model.endswith(".json"):
        return []
    tokenizer = load_tokenizer(clip)
    unknown = unknown_in(shown.expressions.text.tolist(), tokenizer)
    if unknown is None:
        return []
    return [f"warning: {split}: {unknown}. The model {describe_limits(tokenizer)}"]


def _own(scored: Sequence[Scored], name: str, split: str) -> Scored:
    """What the experiment is about: its segmentor on the first split."""
    wanted = {"experiment": name, "scored": "segmentor", "split": split}
    own = [row for row in scored if wanted.items() <= row.about.items()]
    if not own:
        raise InputError(f"metrics: none of them is the segmentor of {name} on {split}; needed it")
    return own[0]


def _analyses(scored: Sequence[Scored], name: str, splits: Sequence[str]) -> list[Analysis]:
    label = table.label_in_report(name)
    everything = by_split(scored, label, left_out=BASELINES)
    chosen = by_split([row for row in scored if row.kind in BROKEN_DOWN], label)
    shown = [split for split in splits if split in everything]
    return [analyze(split, everything[split], chosen[split]) for split in shown]


if __name__ == "__main__":
    main(run)
