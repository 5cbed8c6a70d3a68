"""The official code beside ours: importing it from a folder, equality, and what is skipped."""

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks import peers
from benchmarks.official.clone import Unavailable, on, opened
from benchmarks.official.comparison import SMALL, differences, sentences
from tests.conftest import ROOT

# Stands for a file of a clone: it walks by a dense matrix, and imports what editors leave behind.
WALK = """
from turtle import forward
import cv2
from benchmarks.walk import dense_walk

def propagate_to_edge(x, edge, radius=5, beta=10, exp_times=8):
    return FACTOR * dense_walk(x.cuda(), edge.cuda())[0, :, None]
"""


@pytest.fixture
def clones(tmp_path: Path) -> Path:
    folder = tmp_path / "irn" / "misc"
    folder.mkdir(parents=True)
    (folder / "__init__.py").touch()
    (folder / "indexing.py").write_text(WALK.replace("FACTOR", "1"))
    return tmp_path


def run(clones: Path, monkeypatch: pytest.MonkeyPatch, *parts: str) -> list[dict[str, Any]]:
    """The rows that the command writes."""
    output = clones / "peers.json"
    options = ["--official", str(clones), "--rounds", "2", "--small", "--output", str(output)]
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(peers, "SMALL", replace(SMALL, walked=(12, 20)))
    monkeypatch.setattr(sys, "argv", ["peers", *options, "--parts", *parts])
    peers.main()
    rows: list[dict[str, Any]] = json.loads(output.read_text())["parts"]
    return rows


def test_a_part_is_timed_in_turns_and_one_without_its_clone_is_named(
    clones: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    walk, labels, cris = run(clones, monkeypatch, "walk", "labels", "cris")
    assert walk["equal"]
    assert walk["differences"]["scores"] < 2e-4
    turns = zip(walk["seconds"]["official"], walk["seconds"]["ours"], strict=True)
    ratios = [official / ours for official, ours in turns]
    assert len(ratios) == 2
    assert [walk["lowest"], walk["highest"]] == [min(ratios), max(ratios)]
    assert walk["ratio"] == pytest.approx(sum(ratios) / 2)
    assert labels["skipped"] == f"no IRNet in {clones / 'TRIS'}"
    assert cris["skipped"] == f"no CRIS.pytorch in {clones}"
    assert f"cris  skipped: no CRIS.pytorch in {clones}" in capsys.readouterr().out


def test_results_that_differ_end_the_command(
    clones: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (clones / "irn" / "misc" / "indexing.py").write_text(WALK.replace("FACTOR", "1.01"))
    with pytest.raises(SystemExit, match="more than rounding"):
        run(clones, monkeypatch, "walk")
    assert "NOT EQUAL" in capsys.readouterr().out


def test_nothing_of_a_clone_stays(clones: Path) -> None:
    before, path, finders = set(sys.modules), list(sys.path), list(sys.meta_path)
    with opened(clones / "irn"):
        import misc.indexing  # type: ignore[import-not-found]  # of the clone

        assert misc.indexing.__file__ == str(clones / "irn" / "misc" / "indexing.py")
    left = set(sys.modules) - before
    assert not {"misc", "misc.indexing", "turtle"} & left
    assert (sys.path, sys.meta_path) == (path, finders)


def test_a_missing_package_counts_where_it_is_called(tmp_path: Path) -> None:
    root = tmp_path / "clone"
    root.mkdir()
    (root / "reading.py").write_text(
        "import ema_pytorch, wandb\nfrom pkg_resources import packaging\n"
        "import torch\ntorch.backends.cudnn.deterministic = True\n"
        "newer = packaging.version.parse('2.15') > packaging.version.parse('2.9')\n"
        "wandb.log({'loss': 1})\n"
        "def follow():\n    return ema_pytorch.EMA()\n"
    )
    (root / "other.py").write_text("import no_such_package_anywhere\n")
    with opened(root):
        import reading  # type: ignore[import-not-found]  # of the clone
    assert reading.newer
    assert not torch.backends.cudnn.deterministic
    with pytest.raises(Unavailable, match="needs the package ema_pytorch"):
        reading.follow()
    reason = "clone cannot be imported: ModuleNotFoundError: No module named 'no_such_package"
    with pytest.raises(Unavailable, match=reason), opened(root):
        import other  # type: ignore[import-not-found]  # noqa: F401  # of the clone


def test_requests_for_a_gpu_change_nothing_on_a_cpu() -> None:
    layer = torch.nn.Linear(2, 2)
    with on(torch.device("cpu")):
        torch.cuda.synchronize()
        assert layer.cuda(0) is layer
        assert torch.tensor(1.0, device="cuda:0").cuda().device.type == "cpu"
    with pytest.raises((RuntimeError, AssertionError)):
        torch.tensor(1.0, device="cuda:99")


def test_differences_are_relative_and_of_labels_a_share() -> None:
    official = {
        "map": np.array([4.0, -2.0]),
        "labels": np.array([0, 1, 255, 255]),
        "gradients": {"a": torch.tensor([3.0, 0.0]), "b": torch.tensor([4.0])},
    }
    ours = {
        "map": np.array([4.0, -1.0]),
        "labels": np.array([0, 1, 255, 0]),
        "gradients": {"a": torch.tensor([3.0, 1.0]), "b": torch.tensor([4.0])},
    }
    expected = {"map": 1 / 4, "labels": 1 / 4, "gradients": 1 / 5}
    assert differences(official, ours) == pytest.approx(expected)
    with pytest.raises(ValueError, match="results"):
        differences(official, {"map": ours["map"]})
    with pytest.raises(ValueError, match="only ours has a gradient of c"):
        differences({"gradients": {}}, {"gradients": {"c": torch.ones(1)}})


def test_token_ids_are_sentences() -> None:
    tokens = sentences((4, 3, 20)).view(-1, 20)
    assert (tokens[:, 0] == 49406).all()
    ends = tokens.argmax(dim=1)
    assert (tokens.amax(dim=1) == 49407).all()
    assert all(row[end + 1 :].eq(0).all() for row, end in zip(tokens, ends, strict=True))
    assert len(ends.unique()) > 4
