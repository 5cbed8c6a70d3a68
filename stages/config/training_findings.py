"""What is wrong with the validation of a training, or with what it starts from.

What only the data tell (splits of a source, whether there are masks) is found when the training
begins.
"""

from collections.abc import Mapping

from stages.config.datasets import DatasetConfig
from stages.config.experiment import Experiment
from stages.config.selection import SelectedTraining, continuation_fault
from stages.runtime.errors import suggest

REFSHAPES_SPLITS = ("train", "val", "testA", "testB", "test")  # test: both of them
Experiments = Mapping[str, Experiment]


def training_findings(
    place: str, name: str, experiments: Experiments, datasets: Mapping[str, DatasetConfig]
) -> list[str]:
    """A line for each finding of the trainings of an experiment; `place` is its file."""
    findings = []
    for option, section in trainings(experiments[name]).items():
        faults = [_initial_fault(name, option, experiments)]
        if section.validation is not None and experiments[name].dataset in datasets:
            dataset = datasets[experiments[name].dataset]
            faults += [_split_fault(split, dataset) for split in section.validation.split]
        findings += [f"{place}: {option}.{fault}" for fault in faults if fault is not None]
    return findings


def trainings(experiment: Experiment) -> dict[str, SelectedTraining]:
    """The models that an experiment trains itself: `stage1`, `segmentor`, with their options."""
    sections: dict[str, SelectedTraining] = {}
    own_chain = experiment.learns_from_text and experiment.learned_from is None
    if own_chain and experiment.stage1_checkpoint is None:
        sections["stage1"] = experiment.stage1
    if experiment.checkpoint is None:
        sections["segmentor"] = experiment.segmentor
    return sections


def _split_fault(split: str, dataset: DatasetConfig) -> str | None:
    """What is wrong with the name of a split, as far as the configuration of its data set tells."""
    known = list(REFSHAPES_SPLITS) if dataset.source == "refshapes" else [split]
    if dataset.source == "mix" and not dataset.pooled:
        known = ["train", *(f"{member}_<split>" for member in dataset.members)]
        if any(split.startswith(f"{member}_") for member in dataset.members):
            return None
    if split in known:
        return None
    remedy = suggest(split, known, f"known: {', '.join(known)}")
    return f"validation.split: {split!r} is not known; {remedy}"


def _initial_fault(name: str, option: str, experiments: Experiments) -> str | None:
    """What is wrong with the experiment that a training starts from; None if nothing is."""
    section = trainings(experiments[name])[option]
    other = section.initial_experiment
    if other is None:
        return None
    if other not in experiments:
        remedy = suggest(other, experiments, f"known: {', '.join(experiments)}")
        return f"initialize: {other!r} is not known; {remedy} (the name of a file has a / or a .)"
    chain = [name]
    current: str | None = other
    while current is not None and current in experiments:
        owner = _trained_by(current, option, experiments)
        if owner in chain:
            return f"initialize: {' -> '.join([*chain, owner])} never ends"
        chain.append(owner)
        trained = trainings(experiments[owner]).get(option)
        current = trained.initial_experiment if trained is not None else None
    found = experiments[chain[1]]
    if option == "stage1":
        trains_none = not found.learns_from_text or found.votes_of is not None
        if trains_none and found.stage1_checkpoint is None:
            return f"initialize: {other} has no stage 1; needed an experiment that has"
        return continuation_fault(section, found.stage1)
    own, its = experiments[name].segmentor.model, found.segmentor.model
    if own != its:
        return f"initialize: {other} has a model {its}; needed {own}"
    return continuation_fault(section, found.segmentor)


def _trained_by(name: str, option: str, experiments: Experiments) -> str:
    """The experiment that a model of an experiment is trained by."""
    return makes_masks_of(name, experiments) if option == "stage1" else name


def makes_masks_of(name: str, experiments: Experiments) -> str:
    """The experiment that makes the pseudo masks of one, as far as the names on the way are known.

    That of Configs.source, also where the chain is unknown or never ends, which is told elsewhere.
    """
    seen = [name]
    other = experiments[name].pseudo_masks_of
    while other is not None and other in experiments and other not in seen:
        seen.append(other)
        other = experiments[other].pseudo_masks_of
    return seen[-1]
