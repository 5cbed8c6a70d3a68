"""risflow clean and risflow why, on a finished toy run: what is referred to, and what would run."""

import re
import shutil
from pathlib import Path

import pytest

from risflow.project import reasons
from risflow.status import progress
from stages.config import recipes
from stages.config.catalog import Catalog, contents_of
from stages.config.load import load_configs
from tests.command.conftest import Command
from tests.conftest import Toy, link_workflow

pytestmark = pytest.mark.workflow

WORK = Path("results/work")


@pytest.fixture(scope="module")
def finished(finished_demo: Toy, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with the toy's configuration and results."""
    folder = tmp_path_factory.mktemp("project") / "toy"
    shutil.copytree(finished_demo.folder, folder, symlinks=True)
    link_workflow(folder)
    return folder


@pytest.fixture
def project(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of that project, to be changed."""
    folder = tmp_path / "toy"
    shutil.copytree(finished, folder, symlinks=True)
    monkeypatch.chdir(folder)
    return folder


def write_left_over(kind: str) -> Path:
    folder = WORK / kind / "refshapes-000000000000"
    folder.mkdir(parents=True)
    (folder / "file").write_bytes(b"x" * 2048)
    return folder


def everything() -> set[Path]:
    return set(Path("results").rglob("*"))


def test_what_the_experiments_refer_to_is_never_listed(risflow: Command, project: Path) -> None:
    done = risflow("clean", "--yes")
    assert (done.exit_code, done.stdout) == (0, "")
    assert done.stderr == "every result is one that an experiment refers to\n"


def test_what_nothing_refers_to_is_listed_and_removed_only_when_asked(
    risflow: Command, project: Path
) -> None:
    kept = everything()
    folders = [write_left_over("maps"), write_left_over("stage1")]
    before = everything()
    done = risflow("clean")
    assert done.stdout == "".join(f"  2.0 KiB  {folder}\n" for folder in folders)
    assert done.stderr == "4.0 KiB; `risflow clean --yes` removes them\n"
    assert everything() == before
    assert risflow("clean", "--yes").stderr == "removed: 4.0 KiB\n"
    assert everything() == kept


def test_nothing_is_removed_beside_a_run(
    risflow: Command, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_left_over("maps")
    monkeypatch.setattr(progress, "find_run", lambda: "here")
    done = risflow("clean", "--yes")
    assert done.exit_code == 1
    assert done.stderr == (
        "error: a run of the workflow is active in this folder; nothing was removed\n"
    )
    assert folder.exists()


def test_results_of_earlier_options_are_kept_as_long_as_the_page_shows_them(
    risflow: Command, project: Path
) -> None:
    toy = Toy(project)
    toy.edit("experiments/refshapes_tris.yaml", labels={"iterations": 3})
    assert risflow("clean").stdout == ""
    shutil.rmtree("results/refshapes_tris")
    kinds = [line.split("/")[2] for line in risflow("clean").stdout.splitlines()]
    made_of_labels = {"affinity", "labels", "predictions", "pseudo_masks", "segmentor"}
    assert set(kinds) == made_of_labels | {"rows", "scores", "report"}
    assert kinds == sorted(kinds)


def test_the_page_of_an_experiment_that_is_gone_goes_with_it(
    risflow: Command, project: Path
) -> None:
    Path("results/refshapes_tris").rename("results/renamed")
    assert [line.split()[-1] for line in risflow("clean").stdout.splitlines()] == [
        "results/renamed"
    ]
    products = set(WORK.rglob("*"))
    assert risflow("clean", "--yes").exit_code == 0
    assert not Path("results/renamed").exists()
    assert set(WORK.rglob("*")) == products  # its links were removed, not what they lead to


def why(risflow: Command, *arguments: str) -> list[tuple[str, ...]]:
    """The rows of the table: step and reason."""
    done = risflow("why", *arguments)
    assert done.exit_code == 0, done.stderr
    lines = done.stdout.splitlines()[1:]
    return [tuple(re.split(r"\s{2,}", line.strip(), maxsplit=1)) for line in lines]


def test_nothing_would_run_and_it_is_said(
    risflow: Command, finished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(finished)
    assert risflow("why").stderr == "demo: nothing would run\n"
    done = risflow("why", "refshapes_tris", "--config", "set=labels.iteration=3")
    assert done.exit_code == 1 and "did you mean iterations?" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_the_option_that_changed_is_the_reason(
    risflow: Command, finished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(finished)
    rows = why(risflow, "refshapes_tris", "--config", "set=labels.iterations=3 segmentor.dice=0.5")
    assert rows[0] == ("make_labels", "iterations: default -> 3")
    assert ("train_affinity", "it is made from new labels") in rows
    assert ("train_segmentor", "dice: 1.0 -> 0.5") in rows
    assert rows[-1] == ("make_report", "it shows new results")
    assert not {"prepare", "train_stage1", "select_maps"} & {step for step, _ in rows}


def test_a_result_that_is_not_there_is_the_reason(risflow: Command, project: Path) -> None:
    for folder in WORK.iterdir():
        if folder.is_dir() and folder.name != "report":
            shutil.rmtree(folder)
    for report in WORK.rglob("report.html"):
        report.unlink()
    reasons = dict(why(risflow, "refshapes_tris"))
    assert reasons.pop("make_report") == "it shows new results"
    assert set(reasons.values()) == {"its result is not there, or a part of it"}
    shutil.rmtree(WORK)
    rows = why(risflow, "refshapes_tris")
    assert {reason for _, reason in rows} == {"it was never made", "it shows new results"}


def test_the_version_of_a_step_is_the_reason(
    finished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(finished)
    before = reasons._steps_before(Path("results/refshapes_tris/steps.yaml"))
    true_version = recipes.step_version
    monkeypatch.setattr(
        "stages.config.products.step_version",
        lambda step: true_version(step) + (step == "train_stage1"),
    )
    results = Path("results")
    page = Catalog(load_configs(Path("configs")), results, contents_of(results)).page(
        "refshapes_tris"
    )
    stage1 = next(step for step in page.steps() if step.step == "train_stage1")
    number = true_version("train_stage1")
    assert reasons.explain(stage1, before, page) == (
        f"version {number + 1} of the step, {number} before"
    )
