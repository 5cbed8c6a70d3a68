"""Trainings from text whose epoch was chosen by true masks: what their pages say of it."""

from stages.config.load import Configs
from stages.config.selection import SelectedTraining
from stages.config.training_findings import trainings

TITLES = {"stage1": "stage 1", "segmentor": "the segmentor"}


def selection_note(configs: Configs, name: str) -> str | None:
    """One line for an experiment that learns from text and whose epoch true masks have chosen."""
    experiment = configs.experiments[name]
    if not experiment.learns_from_text:
        return None
    stage1 = trainings(configs.experiments[configs.source(name)]).get("stage1")
    segmentor = trainings(experiment).get("segmentor")
    chosen = {
        option: "+".join(section.validation.split)
        for option, section in (("stage1", stage1), ("segmentor", segmentor))
        if section is not None and section.validation is not None and _uses_masks(section)
    }
    if not chosen:
        return None
    splits = " and ".join(dict.fromkeys(chosen.values()))
    official = "" if experiment.segmentor.model == "rela" else ", as the official code does"
    of = " and ".join(TITLES[option] for option in chosen)
    return f"model selection used the masks of {splits}{official}: {of}"


def _uses_masks(section: SelectedTraining) -> bool:
    return section.keep == "best" or section.early_stopping is not None
