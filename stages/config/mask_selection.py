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
    trained = [trainings(configs.experiments[other]) for other in configs.behind(name)]
    stage1 = [sections["stage1"] for sections in trained if "stage1" in sections]
    own = trained[:1] if experiment.votes_of is None else trained  # votes are of a segmentor, too
    segmentors = [sections["segmentor"] for sections in own if "segmentor" in sections]
    chosen = {
        option: "+".join(section.validation.split)
        for option, sections in (("stage1", stage1), ("segmentor", segmentors))
        for section in sections
        if section.validation is not None and _uses_masks(section)
    }
    if not chosen:
        return None
    splits = " and ".join(dict.fromkeys(chosen.values()))
    official = "" if experiment.segmentor.model == "rela" else ", as the official code does"
    of = " and ".join(TITLES[option] for option in chosen)
    return f"model selection used the masks of {splits}{official}: {of}"


def _uses_masks(section: SelectedTraining) -> bool:
    return section.keep == "best" or section.early_stopping is not None
