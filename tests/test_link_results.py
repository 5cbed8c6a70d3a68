"""What a person opens: links that follow the configuration, and what version 0.1 left."""

import shutil
from pathlib import Path

import pytest
import yaml

from stages import link_results
from stages.config.catalog import Catalog, contents_of
from stages.config.earlier import notice
from stages.config.load import load_configs
from stages.config.recipes import step_version
from tests.conftest import ROOT


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of configs/, and the small CLIP."""
    shutil.copytree(ROOT / "configs", tmp_path / "configs")
    (tmp_path / "data").symlink_to(ROOT / "data")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def link(name: str) -> Path:
    """The folder of a page with its links."""
    configs, results = Path("configs"), Path("results")
    page = Catalog(load_configs(configs), results, contents_of(results)).page(name)
    folder = results / name
    digest = page.product.digest
    steps = results / page.product.folder / "steps.yaml"
    link_results.run(name, digest, steps, folder / f".{digest}", configs, results)
    return folder


def test_an_experiment_has_links_to_all_that_it_is_made_of(project: Path) -> None:
    folder = link("refshapes_tris")
    links = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_symlink()}
    made = {"stage1", "maps", "labels", "affinity", "pseudo_masks", "segmentor", "samples"}
    assert made | {"predictions/segmentor", "scores/segmentor", "report.html"} <= links
    assert str((folder / "stage1").readlink()).startswith("../work/stage1/refshapes-")
    steps = yaml.safe_load((folder / "steps.yaml").read_text())
    stage1 = next(step for step in steps["steps"] if step["step"] == "train_stage1")
    assert stage1["options"]["epochs"] == 4
    assert stage1["version"] == step_version("train_stage1")
    assert set(stage1["files"]) == {"data/small_clip.json", "data/small_clip.safetensors"}
    assert steps["links"]["stage1"] == stage1["place"]


def test_links_follow_an_option_and_what_is_needed_no_more_goes(project: Path) -> None:
    folder = link("refshapes_tris")
    before = str((folder / "segmentor").readlink())
    path = project / "configs/experiments/refshapes_tris.yaml"
    content = yaml.safe_load(path.read_text())
    content["supervision"] = "masks"
    path.write_text(yaml.safe_dump(content))
    settings = project / "configs/config.yaml"
    settings.write_text("demo: refshapes_tris\n")
    link("refshapes_tris")
    assert str((folder / "segmentor").readlink()) != before
    assert not (folder / "stage1").is_symlink() and not (folder / "scores/maps").is_symlink()
    assert len(list(folder.glob(".*"))) == 1


def test_results_of_version_0_1_are_named_and_kept(project: Path) -> None:
    old = project / "results/refshapes_tris/stage1"
    old.mkdir(parents=True)
    (old / "model.safetensors").write_text("weights")
    told = notice(Path("results"), ["refshapes_tris", "refshapes_cris"])
    assert told is not None and "version 0.1: refshapes_tris." in told
    folder = link("refshapes_tris")
    assert (folder / "version_0.1/stage1/model.safetensors").read_text() == "weights"
    assert (folder / "stage1").is_symlink()
    assert notice(Path("results"), ["refshapes_tris"]) is None


def test_what_is_in_the_way_of_a_link_is_told_and_kept(project: Path) -> None:
    folder = project / "results/refshapes_tris/report.html"
    folder.mkdir(parents=True)
    (folder / "mine.txt").write_text("mine")
    with pytest.raises(ValueError, match=r"report\.html: is in the way of a link"):
        link("refshapes_tris")
    assert (folder / "mine.txt").read_text() == "mine"
