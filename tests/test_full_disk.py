"""A disk that takes no more: an error that says so, and what was there before is still there.

A limit on file sizes stands for a full disk: both make a write fail in the middle.
"""

import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from stages.storage.files import remove_abandoned, replacing_folder, write_json
from tests.conftest import ROOT

LIMIT = 64  # kilobytes that a file may have
WRITERS = {
    "objects.parquet": """
import numpy as np, pandas as pd
from stages.storage.tables import write_table
noise = np.random.default_rng(0).bytes(1_000_000).hex()
row = {"expression": 0, "object": 0, "text": noise}
def run(path: Path) -> None:
    write_table(path, "expressions", [row])
""",
    "model.safetensors": """
import torch
from stages.storage.weights import save_weights
def run(path: Path) -> None:
    save_weights(path, {"weight": torch.rand(1_000_000)}, {})
""",
    "model.state.pt": """
import torch
from stages.training.checkpoint import save_state
def run(path: Path) -> None:
    save_state(path, {"weight": torch.rand(1_000_000)})
""",
    "metrics.json": """
from stages.storage.files import write_json
def run(path: Path) -> None:
    write_json(path, list(range(1_000_000)))
""",
}


def limited(command: list[str]) -> list[str]:
    """A command that cannot write larger files than LIMIT."""
    return ["bash", "-c", f"ulimit -f {LIMIT}; exec {shlex.join(command)}"]


@pytest.mark.parametrize("name", WRITERS)
def test_a_file_that_does_not_fit_is_told_and_the_last_good_one_is_kept(
    name: str, tmp_path: Path
) -> None:
    path = tmp_path / name
    path.write_text("the last good one")
    before = "from pathlib import Path\nfrom stages.runtime.command_line import main\n"
    script = tmp_path / "writer.py"
    script.write_text(f"{before}{WRITERS[name]}\nmain(run)\n")
    command = limited([sys.executable, str(script), "--path", str(path)])
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr == f"error: {path}: File too large\n"
    assert path.read_text() == "the last good one"
    assert {file.name for file in tmp_path.iterdir()} == {name, "writer.py"}


def test_what_killed_writers_left_is_removed_and_what_others_write_is_not(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as killed:
        pass
    path = tmp_path / "model.state.pt"
    names = {
        "abandoned": f".model.state.{killed.pid}.partial.pt",
        "in work": ".model.state.1.partial.pt",
        "another file": f".model.{killed.pid}.partial.pt",
    }
    for name in names.values():
        (tmp_path / name).touch()
    remove_abandoned(path)
    assert {file.name for file in tmp_path.iterdir()} == {names["in work"], names["another file"]}


def test_a_path_that_is_refused_is_named_itself_and_not_what_is_written_beside_it(
    tmp_path: Path,
) -> None:
    path = tmp_path / f"{'a' * 245}.json"  # what is written beside it has a longer name
    with pytest.raises(OSError, match=r"File name too long: '.*/a{245}\.json'$"):
        write_json(path, {})
    with (
        pytest.raises(OSError, match=r"File name too long: '.*/a{245}\.json'$"),
        replacing_folder(path),
    ):
        pass
