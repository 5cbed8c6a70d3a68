"""Weights of COCO on its own images are warned about, and the page of public files is true."""

from pathlib import Path

import pytest

from stages.config.contamination import coco_warning, mix_warning
from stages.config.datasets import DatasetConfig
from stages.config.encoders import JudgeSource
from stages.config.experiment import Experiment
from stages.config.load import Configs, load_configs
from stages.config.segmentors import TrisOptions
from stages.config.settings import Download, RemoteFile, Settings
from stages.config.steps import Stage1
from tests.conftest import ROOT

COCO_CLIP = JudgeSource(model="RN50", weights=Path("data/weights/coco.pt"))
COCO_STAGE1 = Stage1(clip=COCO_CLIP)
CASES = {
    "weights of COCO on RefCOCO": (Experiment(dataset="refcoco", stage1=COCO_STAGE1), True),
    "a mix of RefCOCO": (Experiment(dataset="mixed", segmentor=TrisOptions(clip=COCO_CLIP)), True),
    "said by the experiment": (Experiment(dataset="refcoco", trained_on_coco=True), True),
    "a checkpoint": (Experiment(dataset="refcoco", checkpoint=COCO_CLIP.weights), True),
    "a judge": (Experiment(dataset="refcoco", judge=COCO_CLIP), True),
    "a judge that is not used": (
        Experiment(dataset="refcoco", judge=COCO_CLIP, supervision="masks"),
        False,
    ),
    "a stage 1 that is not used": (
        Experiment(dataset="refcoco", stage1=COCO_STAGE1, supervision="masks"),
        False,
    ),
    "another CLIP": (Experiment(dataset="refcoco"), False),
    "other pictures": (Experiment(dataset="mine", stage1=COCO_STAGE1), False),
}


def configs(**experiments: Experiment) -> Configs:
    images = Path("data/images/train2014")
    datasets = {
        "refcoco": DatasetConfig(source="refer", images=images),
        "mine": DatasetConfig(source="table", images=Path("mine")),
        "mixed": DatasetConfig(source="mix", members=("mine", "refcoco")),
    }
    file = RemoteFile(
        path=Path("weights/coco.pt"),
        source="here",
        license="MIT",
        urls=("https://here",),
        trained_on_coco=True,
    )
    return Configs(
        Path("configs"), Settings(), datasets, experiments, {"coco": Download(contents=(file,))}
    )


@pytest.mark.parametrize("case", CASES)
def test_weights_of_coco_are_warned_about_on_its_train_images(case: str) -> None:
    experiment, is_warned = CASES[case]
    actual = coco_warning(configs(one=experiment), "one")
    assert (actual is not None) == is_warned
    if actual:
        assert actual.startswith("warning: ") and "\n" not in actual
        assert f"the test images of {experiment.dataset}: scores are too high" in actual


def test_pseudo_masks_of_an_experiment_with_such_weights_are_warned_about_too() -> None:
    teacher = Experiment(dataset="refcoco", judge=COCO_CLIP)
    pupil = Experiment(dataset="refcoco", supervision="pseudo:teacher")
    actual = coco_warning(configs(teacher=teacher, pupil=pupil), "pupil")
    assert actual is not None and "data/weights/coco.pt trained on COCO" in actual


def test_no_experiment_of_the_project_uses_weights_of_coco() -> None:
    ours = load_configs(ROOT / "configs")
    assert all(coco_warning(ours, name) is None for name in ours.experiments)


def test_mixed_data_with_images_that_are_evaluated_on_are_warned_about() -> None:
    project = load_configs(ROOT / "configs")
    warned = mix_warning(project, "detris_large_refcoco_mixed")
    assert warned is not None and "train images of refcoco_mixed are test images" in warned
    for name in ("detris_large_refcoco_mixed_corrected", "rela_swinb_grefcoco_full"):
        assert mix_warning(project, name) is None
