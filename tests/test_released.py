"""Released weights are imported and scored: planned with pretended files, and run on the toy."""

import re
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from stages.config.load import load_configs
from stages.config.requirements import downloads_of
from stages.models.saved import STAGE1, build
from stages.storage.files import read_json
from tests.conftest import ROOT, Toy, planned_rules, small_demo
from tests.pretended import plan, pretended_project

CONFIGS = load_configs(ROOT / "configs")
RELEASED = [name for name in CONFIGS.experiments if name.endswith("_released")]
IMPORTED_AND_SCORED = {
    *("prepare", "import_checkpoint", "predict", "evaluate", "score", "make_report"),
}


@pytest.fixture(scope="module")
def pretended(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pretended_project(tmp_path_factory.mktemp("project"))


def test_each_released_file_is_in_the_list_of_downloads() -> None:
    for name in RELEASED:
        experiment = CONFIGS.experiments[name]
        files = [experiment.checkpoint, experiment.stage1_checkpoint]
        for file in filter(None, files):
            assert len(downloads_of([file], CONFIGS)) == 1, name
    tris = [
        file for n, d in CONFIGS.downloads.items() if n.startswith("tris_") for file in d.contents
    ]
    assert len(tris) == 10 and all(file.urls for file in tris)


@pytest.mark.workflow
def test_released_weights_of_both_stages_are_scored_and_nothing_is_trained(pretended: Path) -> None:
    text = plan(pretended, "snakemake", "--cores", "1", "tris_r50_refcocog_umd_released")
    rules = planned_rules(text) - {"tris_r50_refcocog_umd_released", "link_results"}
    assert rules == IMPORTED_AND_SCORED
    assert text.count("rule import_checkpoint:") == 2


@pytest.mark.workflow
def test_rows_are_scored_as_the_official_code_scores(pretended: Path) -> None:
    text = plan(
        *(pretended, "snakemake", "--cores", "1", "-p"),
        *("tris_r50_refcoco_released", "rela_swinb_refcoco"),
    )
    commands = re.findall(r"--scored (stage1|segmentor) --split (\w+) .* (--side .*) >", text)
    assert set(commands) == {
        (model, split, options)
        for model, options in (
            ("stage1", "--side 0 --empty-response whole_image"),
            ("segmentor", "--side 0 --empty-response whole_image"),  # of TRIS
            ("segmentor", "--side 480 --empty-response empty"),  # of ReLA
        )
        for split in ("val", "testA", "testB")
    }


@pytest.mark.slow
@pytest.mark.workflow
def test_official_files_of_both_stages_are_scored_on_the_toy(tmp_path: Path) -> None:
    """Random weights in TRIS's layout: the page, the scores of both stages, and the models."""
    run = small_demo(tmp_path)
    experiment = CONFIGS.experiments["refshapes_tris"]
    files = {}
    for name, kind, section in (
        ("stage1", STAGE1, experiment.stage1),
        ("segmentor", "tris", experiment.segmentor),
    ):
        torch.manual_seed(0)
        state = build(kind, section, pretrained=False).state_dict()
        content = {"model": state, "optimizer": {}, "lr_scheduler": {}, "epoch": 14}
        files[name] = tmp_path / f"{name}_shapes.pth"
        torch.save(content, files[name])
    run.edit(
        "experiments/refshapes_tris.yaml",
        stage1_checkpoint=str(files["stage1"]),
        checkpoint=str(files["segmentor"]),
        upper_bound=None,
    )
    done = run.snakemake("refshapes_tris")
    assert done.returncode == 0, done.stderr[-5000:]
    _require_results(run, files)


def _require_results(run: Toy, files: dict[str, Path]) -> None:
    for name, file in files.items():
        state = torch.load(file, weights_only=True)["model"]
        imported = load_file(run.experiment / name / "model.safetensors")
        assert imported.keys() == state.keys()
        assert all(torch.equal(state[key], imported[key]) for key in state)
        scores = read_json(run.experiment / "scores" / name / "val.json")["scores"]
        assert 0 <= scores["mean_iou"] <= 1 and "box_iou" in scores
    page = (run.experiment / "report.html").read_text()
    assert "TRIS stage 1" in page and "Nothing was trained here." in page
    assert "The segmentor and stage 1 are imported, not trained here." in page
