"""A project whose data and weights are empty files: enough to plan every experiment."""

import subprocess
import sys
from pathlib import Path

from stages.config.load import load_configs
from stages.config.requirements import files_of_experiment
from tests.conftest import ROOT, link_workflow


def pretended_project(folder: Path) -> Path:
    """The workflow and configs of this repository, with an empty file for each that is read."""
    link_workflow(folder)
    (folder / "configs").symlink_to(ROOT / "configs")
    (folder / "data").unlink()
    (folder / "data").mkdir()
    for name in ("small_clip.json", "small_clip.safetensors"):
        (folder / "data" / name).symlink_to(ROOT / "data" / name)
    configs = load_configs(ROOT / "configs")
    for name in configs.experiments:
        for file in files_of_experiment(name, configs):
            _pretend(folder / file)
    for split in ("train", "test"):
        (folder / f"data/referit/annotations/{split}.pickle").touch()
    return folder


def _pretend(file: Path) -> None:
    if file.exists():
        return
    file.parent.mkdir(parents=True, exist_ok=True)
    if file.suffix:
        file.touch()
    else:
        file.mkdir()


def plan(folder: Path, *words: str) -> str:
    """What Snakemake says when it plans a command line in a folder."""
    program = str(Path(sys.executable).parent / words[0])
    line = [program, *words[1:], "--dry-run", "--nolock"]
    done = subprocess.run(line, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:] + done.stdout[-1000:]
    return done.stdout + done.stderr
