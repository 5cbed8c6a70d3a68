"""Which experiment's options an official checkpoint was made with, told by its weights' shapes."""

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from risflow.console import notes
from stages import import_checkpoint
from stages.config.experiment import Experiment
from stages.config.load import Configs
from stages.config.segmentors import AnySegmentor
from stages.config.steps import Stage1
from stages.models.official import compare_shapes, read_official
from stages.models.saved import MODELS, STAGE1
from stages.runtime.errors import InputError
from stages.storage.matching import Mismatches
from stages.storage.weights import read_published


def import_official(
    checkpoint: Path, system: str, out: Path, configs: Configs, name: str | None
) -> None:
    """Write a model file with the options of the experiment that the checkpoint fits.

    `name` says which experiment; else all of this system are tried. Raises InputError that names
    the closest one, and the first weight that keeps it from fitting.
    """
    each = sorted(configs.experiments.items(), key=lambda item: item[0] != configs.settings.demo)
    known = {n: e for n, e in each if n not in configs.variants and _has(e, system)}
    # Those that only import have the options of another one, as a rule.
    candidates = {n: e for n, e in known.items() if e.checkpoint is None} or known
    if name is not None:
        if name not in known:
            names = ", ".join(known)
            raise InputError(f"--experiment: {name!r} is not of {system}; known: {names}")
        candidates = {name: known[name]}
    fitting = fitting_experiments(read_official(checkpoint, system), system, candidates, checkpoint)
    chosen = configs.experiments[fitting[0]]
    notes.print(f"{checkpoint}: fits the experiment {fitting[0]}", markup=False)
    if len(fitting) > 1:
        notes.print(
            f"fits as well: {', '.join(fitting[1:])}; these differ in no weight but maybe in the"
            f" words that are read ({_section(chosen, system).num_tokens} tokens here); name"
            " one with --experiment",
            markup=False,
        )
    if system == STAGE1:
        import_checkpoint.run(checkpoint, out, stage1=chosen.stage1)
    else:
        import_checkpoint.run(checkpoint, out, chosen.segmentor)
    notes.print(f"written: {out}", markup=False)


def import_of_any_system(checkpoint: Path, out: Path, configs: Configs) -> None:
    """The same for a checkpoint of which nobody says whose it is: it tells by its weights.

    Raises InputError if it fits no experiment of any system.
    """
    read_published(checkpoint)  # whose error tells all that a file can lack
    for system in MODELS:
        try:
            import_official(checkpoint, system, out, configs, None)
            return
        except InputError:  # of another system
            continue
    raise InputError(
        f"{checkpoint}: fits no experiment; `risflow import --system` tells what it lacks"
    )


def _has(experiment: Experiment, system: str) -> bool:
    if system == STAGE1:
        return experiment.supervision == "pseudo"
    return experiment.segmentor.model == system


def _section(experiment: Experiment, system: str) -> Stage1 | AnySegmentor:
    return experiment.stage1 if system == STAGE1 else experiment.segmentor


def fitting_experiments(
    state: Mapping[str, Tensor], system: str, candidates: Mapping[str, Experiment], place: Path
) -> list[str]:
    """The experiments of which every weight is there, and no other. Raises InputError for none.

    Beside a published row, those of its data set without figures vary its training: they are left
    out.
    """
    compared: dict[str, Mismatches] = {}  # those of the same options are compared once
    by_name: dict[str, Mismatches] = {}
    for name, experiment in candidates.items():
        section = _section(experiment, system)
        key = section.model_dump_json(exclude={"clip": {"context_length"}})
        if key not in compared:
            compared[key] = compare_shapes(state, system, section)
        by_name[name] = compared[key]
    fitting = [name for name, mismatches in by_name.items() if not mismatches.count]
    if not fitting:
        closest = min(by_name, key=lambda name: by_name[name].count)
        raise InputError(
            f"{place}: fits no experiment of {system}; the closest is {closest}:"
            f" {by_name[closest].text}"
        )
    rows = {candidates[name].dataset for name in fitting if candidates[name].published}
    return [n for n in fitting if candidates[n].published or candidates[n].dataset not in rows]
