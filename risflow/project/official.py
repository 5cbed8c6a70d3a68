"""Which experiment's options an official checkpoint was made with, told by its weights' shapes."""

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from risflow.console import notes
from stages import import_checkpoint
from stages.config.experiment import Experiment
from stages.config.load import Configs
from stages.config.section import Section
from stages.models.official import compare_shapes, read_official
from stages.models.saved import STAGE1
from stages.runtime.errors import InputError
from stages.storage.published_weights import Misfits


def import_official(
    checkpoint: Path, system: str, out: Path, configs: Configs, name: str | None
) -> None:
    """Write a model file with the options of the experiment that the checkpoint fits.

    `name` says which experiment; else all of this system are tried. Raises InputError that names
    the closest one, and the first weight that keeps it from fitting.
    """
    candidates = {n: e for n, e in configs.experiments.items() if _has(e, system)}
    if name is not None:
        if name not in candidates:
            known = ", ".join(candidates)
            raise InputError(f"--experiment: {name!r} is not of {system}; known: {known}")
        candidates = {name: candidates[name]}
    fitting = fitting_experiments(read_official(checkpoint, system), system, candidates, checkpoint)
    chosen = configs.experiments[fitting[0]]
    notes.print(f"{checkpoint}: fits the experiment {fitting[0]}", markup=False)
    if len(fitting) > 1:
        notes.print(
            f"fits as well: {', '.join(fitting[1:])}; these differ in no weight but maybe in the"
            f" words that are read (clip.context_length: {chosen.clip.context_length} here); name"
            " one with --experiment",
            markup=False,
        )
    if system == STAGE1:
        import_checkpoint.run(checkpoint, out, chosen.clip, stage1=chosen.stage1)
    else:
        import_checkpoint.run(checkpoint, out, chosen.clip, chosen.segmentor)
    notes.print(f"written: {out}", markup=False)


def _has(experiment: Experiment, system: str) -> bool:
    if system == STAGE1:
        return experiment.supervision == "pseudo"
    return experiment.segmentor.model == system


def fitting_experiments(
    state: Mapping[str, Tensor], system: str, candidates: Mapping[str, Experiment], place: Path
) -> list[str]:
    """The experiments of which every weight is there, and no other. Raises InputError for none."""
    compared: dict[str, Misfits] = {}  # those of the same options are compared once
    found: dict[str, Misfits] = {}
    for name, experiment in candidates.items():
        section: Section = experiment.stage1 if system == STAGE1 else experiment.segmentor
        clip = experiment.clip
        key = section.model_dump_json() + clip.model_dump_json(exclude={"context_length"})
        if key not in compared:
            compared[key] = compare_shapes(state, system, section, clip)
        found[name] = compared[key]
    fitting = [name for name, misfits in found.items() if not misfits.count]
    if not fitting:
        closest = min(found, key=lambda name: found[name].count)
        raise InputError(
            f"{place}: fits no experiment of {system}; the closest is {closest}:"
            f" {found[closest].text}"
        )
    return fitting
