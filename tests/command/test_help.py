"""What the command says of itself: its help, and what a shell completes."""

import os
import subprocess
import sys

import pytest

from tests.command.conftest import Command
from tests.conftest import ROOT


def test_help_fits_a_screen(risflow: Command) -> None:
    lines = risflow("--help").stdout.strip().splitlines()
    assert len(lines) <= 32 and max(map(len, lines)) <= 80


@pytest.mark.parametrize(
    ("line", "completed"),
    [
        ("risflow re", "report"),
        ("risflow report refshapes_tr", "refshapes_tris\nrefshapes_tris_masks"),
        ("risflow compare refshapes_tris refshapes_cris_", "refshapes_cris_pseudo"),
        ("risflow status refcocog", "refcocog_google\nrefcocog_umd"),
        ("risflow status de", "demo"),
        ("risflow predict --ta", "--table"),
    ],
)
def test_a_shell_completes_verbs_options_and_names(line: str, completed: str) -> None:
    asked = {
        "COMP_WORDS": line,
        "COMP_CWORD": str(len(line.split()) - 1),
        "_RISFLOW_COMPLETE": "complete_bash",
    }
    command = [sys.executable, "-c", "from risflow.cli import app; app(prog_name='risflow')"]
    done = subprocess.run(
        command, env=os.environ | asked, cwd=ROOT, capture_output=True, text=True, check=True
    )
    names = done.stdout.strip().splitlines()
    assert set(completed.split("\n")) <= set(names)
    assert all(name.startswith(line.split()[-1]) for name in names)
