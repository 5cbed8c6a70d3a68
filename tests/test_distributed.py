"""Several processes train as one does: on the CPU, by gloo, started as the workflow starts them."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from stages.training.batches import MicroBatch, micro_batches
from tests.conftest import ROOT

SOME = ("stage1", "cris", "rela_fine", "irnet")
OTHERS = ("tris", "tris_taught", "etris", "detris", "stage1_aided", "cris_aided")
MODELS = SOME + OTHERS
PARTS = ("stage1-21-2", "cris-21-2")  # the last batch is one of 4 items and one of 1
EPOCHS = "3"  # 9 steps
# Rounding in float64 grows to this within 21 steps, in units of weights that move by about 1e-3: in
# ReLA, whose instance norms magnify it, to 1e-5, in the others to 1e-9.
WEIGHTS = {"rela_fine": 2e-5}


def command(processes: int, *arguments: str) -> list[str]:
    return [
        *(sys.executable, "-m", "stages.runtime.launch", str(processes)),
        *("tests.training_case", *arguments),
    ]


def environment(folder: Path) -> dict[str, str]:
    # Names of no GPU: some are leased, and torch finds none.
    gpus = "GPU-a,GPU-b,GPU-c,GPU-d"
    return {**os.environ, "CUDA_VISIBLE_DEVICES": gpus, "TMPDIR": str(folder)}


def train(
    folder: Path, processes: int, *names: str, epochs: str = EPOCHS
) -> subprocess.CompletedProcess[str]:
    folder.mkdir(exist_ok=True)
    return subprocess.run(
        command(processes, str(folder), epochs, *names),
        cwd=ROOT,
        env=environment(folder),
        capture_output=True,
        text=True,
    )


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Some models, trained by one process."""
    folder = tmp_path_factory.mktemp("alone")
    done = train(folder, 1, *SOME, *PARTS)
    assert done.returncode == 0, done.stderr[-3000:]
    return folder


def assert_alike(first: Path, second: Path) -> None:
    """Losses and weights agree up to rounding."""
    ours, theirs = (json.loads((f / "losses.json").read_text()) for f in (first, second))
    assert [row["step"] for row in ours] == [row["step"] for row in theirs]
    for row, other in zip(ours, theirs, strict=True):
        assert row == pytest.approx(other, rel=1e-6)
    weights, others = (load_file(folder / "model.safetensors") for folder in (first, second))
    tolerance = WEIGHTS.get(first.name, 1e-8)
    for name, value in weights.items():
        assert torch.allclose(value, others[name], rtol=0, atol=tolerance), name


def test_two_processes_train_to_the_same_losses_and_weights(alone: Path, tmp_path: Path) -> None:
    done = train(tmp_path / "both", 2, *SOME, *PARTS)
    assert done.returncode == 0, done.stderr[-3000:]
    for name in (*SOME, *PARTS):
        assert_alike(tmp_path / "both" / name, alone / name)


@pytest.mark.long
def test_two_processes_train_the_other_models_alike(tmp_path: Path) -> None:
    for folder, count in (("both", 2), ("alone", 1)):
        done = train(tmp_path / folder, count, *OTHERS)
        assert done.returncode == 0, done.stderr[-3000:]
    for name in OTHERS:
        assert_alike(tmp_path / "both" / name, tmp_path / "alone" / name)


@pytest.mark.slow
@pytest.mark.parametrize("processes", [2, 3, 4])
def test_last_batches_of_any_size_train_as_in_one_process(processes: int, tmp_path: Path) -> None:
    tails = sorted({1, 2, processes - 1})
    whole = [f"{name}-{8 + tail}-1" for name in MODELS for tail in tails]
    parts = [f"{name}-{12 + tail}-2" for name in MODELS for tail in tails]
    for folder, count in (("several", processes), ("alone", 1)):
        done = train(tmp_path / folder, count, *whole, *parts, epochs="2")
        assert done.returncode == 0, done.stderr[-3000:]
    for case in (*whole, *parts):
        assert_alike(tmp_path / "several" / case, tmp_path / "alone" / case)


@pytest.mark.long
def test_sigterm_saves_the_step_and_one_process_goes_on_where_two_were(
    alone: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "ended"
    folder.mkdir()
    with subprocess.Popen(
        command(2, str(folder), EPOCHS, "cris"),
        cwd=ROOT,
        env=environment(folder),
        stderr=subprocess.PIPE,
        text=True,
    ) as running:
        deadline = time.monotonic() + 120
        while not list(folder.glob("cris/*.state.pt")) and time.monotonic() < deadline:
            time.sleep(0.01)
        running.send_signal(signal.SIGTERM)
        _, message = running.communicate()
    assert running.returncode != 0, "a failed job is tried again"
    assert "saved at step" in message
    assert not (folder / "cris/model.safetensors").exists()
    done = train(folder, 1, "cris")
    assert done.returncode == 0, done.stderr[-3000:]
    assert "continues at step" in done.stderr
    assert_alike(folder / "cris", alone / "cris")


def test_each_item_of_a_step_is_seen_by_one_process() -> None:
    items = [(0, number) for number in range(21)]
    for processes in (1, 2, 4):
        for size in (21, 8, 5):
            parts = [micro_batches(items, size, rank, processes) for rank in range(processes)]
            assert len({len(part) for part in parts}) == 1, "all take part in every exchange"
            seen = []
            for passes in zip(*parts, strict=True):
                seen += [item for own in passes[: passes[0].processes] for item in own.items]
            assert seen == items
            assert sum(part.share for part in parts[0]) == pytest.approx(1)


def test_a_process_without_items_sees_one_that_does_not_count() -> None:
    assert micro_batches([(3, 7)], 8, rank=1, processes=2) == [MicroBatch([(3, 7)], 1.0, 1)]
    assert micro_batches([(3, 7)], 8, rank=0, processes=2) == [MicroBatch([(3, 7)], 1.0, 1)]
