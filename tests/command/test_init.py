"""risflow init --update: an interruption at any moment loses nothing."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from risflow.project.files import WORKFLOW, copy_project, update_workflow
from tests.conftest import ROOT

KILLED = 9
MOVES = 9  # of an update: three names, each the older copy, the old one, the new one
# An update in which the process ends at once, in place of the n-th move.
UPDATE = """
import os, sys
from pathlib import Path
from risflow.project.files import update_workflow

moves, rename = [], Path.rename
def counted(path, target):
    moves.append(path)
    if len(moves) == int(sys.argv[1]):
        os._exit(9)
    return rename(path, target)
Path.rename = counted
update_workflow(Path("."))
"""


def project_of_a_user(folder: Path) -> Path:
    """A project that was updated before, and whose workflow its user changed since."""
    copy_project(folder)
    update_workflow(folder)
    (folder / "Snakefile").write_text("mine")
    (folder / "workflow/mine.smk").write_text("mine")
    (folder / "Snakefile.old").write_text("older")
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return project_of_a_user(tmp_path_factory.mktemp("project"))


@pytest.mark.parametrize("move", range(1, MOVES + 1))
def test_ctrl_c_leaves_the_project_as_it_was(
    project: Path, monkeypatch: pytest.MonkeyPatch, move: int
) -> None:
    before, moves, rename = contents(project), list[Path](), Path.rename

    def interrupted(path: Path, target: Path) -> Path:
        moves.append(path)
        if len(moves) == move:
            raise KeyboardInterrupt
        return rename(path, target)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Path, "rename", interrupted)
        update_workflow(project)
    assert contents(project) == before


@pytest.mark.parametrize("move", [3, 6, 9])  # the old one is moved, the new one not yet
def test_what_a_killed_update_leaves_is_updated_by_the_next_one(tmp_path: Path, move: int) -> None:
    project_of_a_user(tmp_path)
    done = subprocess.run(
        [sys.executable, "-c", UPDATE, str(move)],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == KILLED
    assert (tmp_path / "Snakefile.old").read_text() == "mine"
    (kept,) = tmp_path.rglob("mine.smk")
    assert kept.parent.name in ("workflow", "workflow.old")
    update_workflow(tmp_path)
    assert (tmp_path / "Snakefile").read_bytes() == (ROOT / "Snakefile").read_bytes()
    assert all((tmp_path / name).exists() for name in WORKFLOW)
    assert not (tmp_path / "workflow/mine.smk").exists()
