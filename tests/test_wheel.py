"""risflow as it is installed: from its wheel, in folders that are no checkout."""

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from PIL import Image

from risflow.project.files import DATA
from stages.config.project_version import VERSION, version_notice
from tests.conftest import ROOT

COPIED = ("Snakefile", "configs", "profiles", "workflow", *DATA)


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The environment of a Python that has the wheel, and not the checkout, in front."""
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder / "site")
    return os.environ | {"PYTHONPATH": str(folder / "site"), "PYTHONDONTWRITEBYTECODE": "1"}


def run(
    environment: dict[str, str], folder: Path, *arguments: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments], cwd=folder, env=environment, capture_output=True, text=True
    )


def test_a_project_of_the_wheel_has_what_the_checkout_has(
    installed: dict[str, str], tmp_path: Path
) -> None:
    done = run(installed, tmp_path, "-m", "risflow", "init", "project")
    assert done.returncode == 0, done.stderr
    assert done.stdout == "cd project\nsnakemake --cores all demo\n"
    listed = subprocess.run(
        ["git", "ls-files", *COPIED], cwd=ROOT, check=True, capture_output=True, text=True
    )
    project = tmp_path / "project"
    for name in listed.stdout.split():
        assert (project / name).read_bytes() == (ROOT / name).read_bytes(), name
    assert version_notice(project) is None


def test_the_demo_of_a_project_can_be_planned_and_uses_the_wheel(
    installed: dict[str, str], tmp_path: Path
) -> None:
    run(installed, tmp_path, "-m", "risflow", "init", ".")
    planned = run(installed, tmp_path, "-m", "snakemake", "demo", "-n", "--quiet", "rules")
    assert planned.returncode == 0 and "train_stage1" in planned.stdout, planned.stderr
    where = run(installed, tmp_path, "-c", "import stages, risflow; print(stages.__file__)")
    assert where.stdout.startswith(installed["PYTHONPATH"]), where


def test_the_released_model_predicts_before_any_run(
    installed: dict[str, str], tmp_path: Path
) -> None:
    run(installed, tmp_path, "-m", "risflow", "init", ".")
    command = "predict", "data/example.jpg", "the red triangle", "--json"
    done = run(installed, tmp_path, "-m", "risflow", *command)
    assert done.returncode == 0, done.stderr
    assert "no experiment has a segmentor yet: the released model of the demo" in done.stderr
    (answer,) = json.loads(done.stdout)
    with Image.open(tmp_path / answer["files"]["mask"]) as mask:
        left, top, right, bottom = mask.getbbox()
    row, column = answer["peak"]
    assert top <= row < bottom and left <= column < right and 0.01 < answer["area"] < 0.1


def test_a_folder_that_has_a_project_is_left_alone_but_for_an_update(
    installed: dict[str, str], tmp_path: Path
) -> None:
    run(installed, tmp_path, "-m", "risflow", "init", ".")
    (tmp_path / "Snakefile").write_text("mine")
    (tmp_path / "workflow/version.txt").write_text("0.1.5\n")
    (tmp_path / "configs/config.yaml").write_text("results: elsewhere\n")
    again = run(installed, tmp_path, "-m", "risflow", "init", ".")
    assert again.returncode == 1 and "Snakefile is there already" in again.stderr
    planned = run(installed, tmp_path, "-m", "risflow", "status", "refshapes_tris")
    assert planned.returncode == 1 and "Snakefile" in planned.stderr, planned.stderr
    notice = version_notice(tmp_path)
    assert notice is not None and f"risflow 0.1.5; {VERSION} is installed" in notice

    done = run(installed, tmp_path, "-m", "risflow", "init", ".", "--update")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "Snakefile").read_bytes() == (ROOT / "Snakefile").read_bytes()
    assert (tmp_path / "Snakefile.old").read_text() == "mine"
    assert (tmp_path / "configs/config.yaml").read_text() == "results: elsewhere\n"
    assert version_notice(tmp_path) is None


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("init", "file"), "file"),
        (("init", "empty", "--update"), "no project here; `risflow init empty` makes one"),
    ],
)
def test_init_refuses_in_one_line(
    installed: dict[str, str], tmp_path: Path, arguments: tuple[str, ...], message: str
) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "empty").mkdir()
    done = run(installed, tmp_path, "-m", "risflow", *arguments)
    assert done.returncode == 1 and message in done.stderr and done.stderr.count("\n") == 1
    assert list((tmp_path / "empty").iterdir()) == []


def test_a_clone_is_not_updated() -> None:
    done = run(dict(os.environ), ROOT, "-m", "risflow", "init", ".", "--update")
    assert done.returncode == 1 and "a clone, which git updates" in done.stderr


def test_a_folder_of_its_name_does_not_hide_the_package(tmp_path: Path) -> None:
    (tmp_path / "risflow").mkdir()  # a clone, seen from the folder beside it
    code = (
        "import risflow; print(risflow.load.__name__, issubclass(risflow.InputError, ValueError))"
    )
    done = run(dict(os.environ), tmp_path, "-c", code)
    assert done.stdout == "load True\n", done.stderr


@pytest.mark.parametrize("command", ["import risflow; print(risflow.__version__)", None])
def test_the_version_is_told(command: str | None, tmp_path: Path) -> None:
    arguments = ["-c", command] if command else ["-m", "risflow", "--version"]
    done = run(dict(os.environ), tmp_path, *arguments)
    assert done.stdout.split()[-1] == VERSION, done.stderr
