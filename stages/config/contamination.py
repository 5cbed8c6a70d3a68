"""Weights that have seen the images on which they are scored."""

from pathlib import Path

from stages.config.experiment import Experiment
from stages.config.load import Configs

COCO_IMAGES = "train2014"  # the folder in which the test images of RefCOCO, RefCOCO+, RefCOCOg are


def coco_warning(configs: Configs, name: str) -> str | None:
    """One line for an experiment that scores weights of COCO on images of COCO's train split.

    Weights are known as such by `trained_on_coco` of the experiment, of those that it learns
    from, or of a file in configs/downloads.yaml.
    """
    experiment = configs.experiments[name]
    if not _shows_coco(configs, experiment.dataset):
        return None
    fetched = [file for each in configs.downloads.values() for file in each.contents]
    known = {Path("data") / file.path for file in fetched if file.trained_on_coco}
    for user in configs.behind(name):
        of_coco = [str(path) for path in _files(configs.experiments[user]) if path in known]
        if of_coco or configs.experiments[user].trained_on_coco:
            return (
                f"warning: {', '.join(of_coco) or f'weights of {user}'} trained on COCO, whose"
                f" train images are the test images of {experiment.dataset}: scores are too high"
            )
    return None


def mix_warning(configs: Configs, name: str) -> str | None:
    """One line for an experiment on mixed data that trains on images that it is scored on."""
    dataset = configs.datasets[configs.experiments[name].dataset]
    if dataset.source != "mix" or dataset.pooled or dataset.drop_evaluated_images:
        return None
    return (
        f"warning: train images of {configs.experiments[name].dataset} are test images of another"
        " of its members, as in the official code: scores are too high"
    )


def _shows_coco(configs: Configs, dataset: str) -> bool:
    members = configs.datasets[dataset].members or (dataset,)
    folders = [configs.datasets[member].images for member in members]
    return any(folder is not None and folder.name == COCO_IMAGES for folder in folders)


def _files(experiment: Experiment) -> list[Path]:
    """All weights that an experiment names."""
    named = experiment.segmentor.training_files
    if experiment.from_text:
        named += [
            *experiment.stage1.training_files,
            *experiment.judge.files,
            *experiment.affinity.files,
        ]
    return named if experiment.checkpoint is None else [*named, experiment.checkpoint]
