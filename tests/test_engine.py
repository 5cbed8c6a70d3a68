"""The training loop: its order of items, its losses, and being killed."""

import json
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import Tensor, nn

from stages.config.section import Execution, Training
from stages.config.selection import SelectedTraining, Validation
from stages.runtime.errors import InputError, Interrupted
from stages.storage.files import read_json
from stages.training import engine
from stages.training.schedule import schedule
from stages.training.selection import Selection
from tests.conftest import ROOT, file_hash

ENDING = [signal.SIGTERM, signal.SIGINT, signal.SIGHUP]

CONFIG = Training(
    epochs=3,
    batch_size=4,
    learning_rate=0.1,
    backbone_learning_rate=0.1,
    precision="float32",
)
EXECUTION = Execution(save_every=1)


class Points:
    """y = 2x + 1, with noise that differs from epoch to epoch."""

    def __init__(self, fatal_step: int | None = None, fatal_signal: int = signal.SIGKILL) -> None:
        self.groups = np.arange(10) // 2
        self.seen: list[tuple[int, int]] = []
        self.fatal_step, self.fatal_signal = fatal_step, fatal_signal
        self.collated = 0

    def __len__(self) -> int:
        return 10

    def __getitem__(self, draw: tuple[int, int]) -> tuple[float, float]:
        self.seen.append(draw)
        noise = np.random.default_rng(draw).normal() / 10
        return draw[1] / 10, 2 * draw[1] / 10 + 1 + noise

    def collate(self, items: list[Any]) -> dict[str, Tensor]:
        self.collated += 1
        if self.collated == self.fatal_step:
            signal.raise_signal(self.fatal_signal)
        x, y = torch.tensor(items, dtype=torch.float32).T
        return {"x": x[:, None], "y": y[:, None]}

    def prepare(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        return batch


class Line(nn.Module):
    """A line with dropout, so that the state of torch's random numbers matters too."""

    def __init__(self, scale: float = 1.0) -> None:
        super().__init__()
        self.line = nn.Linear(1, 1)
        self.dropout = nn.Dropout(0.1)
        self.scale = scale
        nn.init.zeros_(self.line.weight)
        nn.init.zeros_(self.line.bias)

    def forward(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        error = (self.line(self.dropout(batch["x"])) - batch["y"]).square().mean() * self.scale
        return {"loss": error, "error": error}

    def parameter_groups(self, config: Training) -> list[dict[str, Any]]:
        return [{"params": list(self.parameters()), "lr": config.learning_rate}]

    def kept(self) -> nn.Module:
        return self


def fit(line: Line, config: Training, output: Path) -> None:
    engine.fit(line, Points(), config, execution=EXECUTION, output=output, fingerprint="", about={})


def train(
    folder: Path,
    config: Training = CONFIG,
    data: Points | None = None,
    execution: Execution = EXECUTION,
    **line: Any,
) -> Path:
    output = folder / "model.safetensors"
    points = data or Points()
    engine.fit(
        Line(**line),
        points,
        config,
        execution=execution,
        output=output,
        fingerprint="a",
        about={"kind": "line"},
    )
    return output


def test_a_training_lowers_its_loss_and_leaves_no_state(tmp_path: Path) -> None:
    output = train(tmp_path, CONFIG.model_copy(update={"epochs": 60}))
    history = json.loads((tmp_path / "losses.json").read_text())
    assert history[-1]["loss"] < history[0]["loss"] / 5
    assert history[-1]["step"] == 60 * 3
    assert {path.name for path in output.parent.iterdir()} == {
        "model.safetensors",
        "losses.json",
        "tensorboard",
    }


def test_tensorboard_shows_losses_learning_rate_and_throughput(tmp_path: Path) -> None:
    train(tmp_path)
    board = EventAccumulator(str(tmp_path / "tensorboard"))
    board.Reload()
    names = ["loss", "error", "learning_rate", "items_per_second"]
    names.append("waiting_for_data")
    assert board.Tags()["scalars"] == [f"train/{name}" for name in names]
    assert board.Scalars("train/items_per_second")[0].value > 0


def test_an_epoch_sees_every_item_once_in_an_order_of_its_own(tmp_path: Path) -> None:
    data = Points()
    train(tmp_path, data=data)
    epochs = [[index for epoch, index in data.seen if epoch == number] for number in range(3)]
    assert all(sorted(order) == list(range(10)) for order in epochs)
    assert epochs[0] != epochs[1]


def test_grouped_batches_keep_the_items_of_an_image_together(tmp_path: Path) -> None:
    data = Points()
    train(tmp_path, CONFIG.model_copy(update={"group_by_image": True}), data)
    groups = [data.groups[index] for epoch, index in data.seen if epoch == 1]
    assert groups[::2] == groups[1::2]


@pytest.mark.parametrize(
    ("fatal_step", "ema"),
    [
        (1, None),
        pytest.param(2, 0.9, marks=pytest.mark.long),
        pytest.param(5, None, marks=pytest.mark.long),
        (9, 0.9),
    ],
)
def test_a_killed_training_continues_to_the_same_weights_bit_for_bit(
    tmp_path: Path, fatal_step: int, ema: float | None
) -> None:
    config = CONFIG.model_copy(update={"ema": ema})
    unbroken = train(tmp_path / "unbroken", config)
    broken = tmp_path / "broken"
    command = (
        "from pathlib import Path; from tests import test_engine as t; import sys;"
        "t.train(Path(sys.argv[1]), t.Training.model_validate_json(sys.argv[2]),"
        " t.Points(int(sys.argv[3])))"
    )
    killed = subprocess.run(
        [sys.executable, "-c", command, str(broken), config.model_dump_json(), str(fatal_step)],
        cwd=Path(__file__).parent.parent,
        capture_output=True,
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()
    assert not (broken / "model.safetensors").exists()
    assert (broken / "model.state.pt").exists() == (fatal_step > 1)
    resumed = train(broken, config)
    assert file_hash(resumed) == file_hash(unbroken)
    first, second = ((p.parent / "losses.json").read_text() for p in (resumed, unbroken))
    assert first == second


@pytest.mark.parametrize("number", ENDING)
def test_a_signal_ends_a_training_after_its_step_with_the_state_saved(
    tmp_path: Path, number: int
) -> None:
    rarely = Execution(save_every=1000)
    unbroken = train(tmp_path / "unbroken")
    broken = tmp_path / "broken"
    handlers = [signal.getsignal(each) for each in ENDING]
    with pytest.raises(Interrupted, match="saved at step 5 of 9") as ended:
        train(broken, data=Points(5, number), execution=rarely)
    assert ended.value.exit_code == 128 + number
    assert [signal.getsignal(each) for each in ENDING] == handlers
    assert file_hash(train(broken)) == file_hash(unbroken)


class GroupEnded(Points):
    """A worker ends the whole group of processes while the trainer waits for its item."""

    def __getitem__(self, draw: tuple[int, int]) -> tuple[float, float]:
        if draw == (1, 3):
            os.killpg(0, signal.SIGTERM)
            time.sleep(1)
        return super().__getitem__(draw)


def test_sigterm_to_the_trainer_and_its_workers_saves_the_step(tmp_path: Path) -> None:
    unbroken = train(tmp_path / "unbroken")
    broken = tmp_path / "broken"
    command = (
        "import sys; from pathlib import Path; from tests import test_engine as t;"
        "t.train(Path(sys.argv[1]), data=t.GroupEnded(),"
        " execution=t.Execution(save_every=1000, workers=2))"
    )
    ended = subprocess.run(
        [sys.executable, "-c", command, str(broken)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        start_new_session=True,
        timeout=300,
    )
    assert ended.returncode != 0
    assert "Interrupted: ended by SIGTERM; saved at step" in ended.stderr, ended.stderr
    assert "killed by signal" not in ended.stderr
    assert file_hash(train(broken)) == file_hash(unbroken)


class OnSmallGpu(Line):
    """Has no memory for more than `most` items at a time; no dropout."""

    def __init__(self, most: int) -> None:
        super().__init__()
        self.dropout = nn.Dropout(0.0)
        self.most = most

    def forward(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        if len(batch["x"]) > self.most:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 3 GiB")
        return super().forward(batch)


def test_what_does_not_fit_is_done_in_parts_with_the_same_result(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    results = []
    for most in (4, 1):
        output = tmp_path / str(most) / "model.safetensors"
        config = CONFIG.model_copy(update={"optimizer": "sgd"})
        fit(OnSmallGpu(most), config, output)
        results.append(load_file(output))
    assert torch.allclose(results[0]["line.weight"], results[1]["line.weight"], atol=1e-6)
    told = [record.message for record in caplog.records if "out of memory" in record.message]
    assert ["in 2 parts" in told[0], "in 4 parts" in told[1], len(told)] == [True, True, 2]


def test_a_training_goes_on_in_the_parts_that_fitted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    rarely = Execution(save_every=1000)
    for data in (Points(20, signal.SIGTERM), Points()):
        caplog.clear()
        with suppress(Interrupted):
            engine.fit(
                OnSmallGpu(1),
                data,
                CONFIG,
                execution=rarely,
                output=tmp_path / "model.safetensors",
                fingerprint="",
                about={},
            )
    assert "continues at step" in caplog.text
    assert "out of memory" not in caplog.text


def test_a_training_that_is_ended_when_it_finishes_repeats_no_step(tmp_path: Path) -> None:
    def end(_line: nn.Module) -> None:
        raise Interrupted(signal.SIGTERM)

    finished: list[nn.Module] = []
    for finish, seen in ((end, 30), (finished.append, 0)):
        data = Points()
        with suppress(Interrupted):
            engine.fit(
                Line(),
                data,
                CONFIG,
                execution=EXECUTION,
                output=tmp_path / "model.safetensors",
                fingerprint="a",
                about={"kind": "line"},
                finish=finish,
            )
        assert len(data.seen) == seen
    assert len(finished) == 1
    assert file_hash(tmp_path / "model.safetensors") == file_hash(train(tmp_path / "unbroken"))


def test_an_item_that_does_not_fit_alone_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="out of memory; needed: smaller images"):
        fit(OnSmallGpu(0), CONFIG, tmp_path / "model.safetensors")


def test_a_state_of_other_options_is_not_used(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    torch.save({"fingerprint": "b", "step": 2}, tmp_path / "model.state.pt")
    train(tmp_path)
    assert "of other options or data" in caplog.text


def test_a_state_that_is_not_whole_is_not_used(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "model.state.pt").write_bytes(b"half")
    train(tmp_path)
    assert "not readable" in caplog.text


def test_accumulation_gives_the_gradient_of_the_whole_batch(tmp_path: Path) -> None:
    class NoDropout(Line):
        def __init__(self) -> None:
            super().__init__()
            self.dropout = nn.Dropout(0.0)

    results = []
    for parts in (1, 4):
        output = tmp_path / str(parts) / "model.safetensors"
        config = CONFIG.model_copy(update={"accumulate": parts, "optimizer": "sgd"})
        fit(NoDropout(), config, output)
        results.append(load_file(output))
    assert torch.allclose(results[0]["line.weight"], results[1]["line.weight"], atol=1e-6)


def test_a_loss_that_is_not_finite_stops_and_names_the_step(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"epoch 0, step 0: loss is not finite \(loss inf"):
        train(tmp_path, scale=float("inf"))
    assert not (tmp_path / "model.safetensors").exists()


def test_the_schedule_that_counts_epochs_over_all_steps_hardly_falls() -> None:
    """LambdaLR of official train_stage2.py, stepped once an epoch, over 1000 steps in 10 epochs."""
    config = CONFIG.model_copy(update={"schedule": "poly_per_epoch", "epochs": 10})
    rate = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    official = torch.optim.lr_scheduler.LambdaLR(rate, lambda x: (1 - x / 1000) ** 0.9)
    for epoch in range(10):
        for step in (100 * epoch, 100 * epoch + 99):
            assert schedule(config, step, 1000) == pytest.approx(official.get_last_lr()[0])
        rate.step()
        official.step()
    assert 0.99 < schedule(config, 999, 1000) < 0.992


def test_a_last_batch_that_is_not_full_is_left_out_if_asked(tmp_path: Path) -> None:
    points = Points()
    config = CONFIG.model_copy(update={"drop_last": True, "epochs": 5})
    train(tmp_path, config, points)
    history = json.loads((tmp_path / "losses.json").read_text())
    assert history[-1]["step"] == 5 * 2 and history[-1]["epoch"] == 5
    of_epochs = [{item for epoch, item in points.seen if epoch == number} for number in range(5)]
    assert [len(items) for items in of_epochs] == [8] * 5
    assert set.union(*of_epochs) == set(range(10))  # others each time
    many = config.model_copy(update={"batch_size": 11})
    with pytest.raises(InputError, match="batch_size: 11 with drop_last, for 10 items"):
        train(tmp_path / "other", many)


@pytest.mark.parametrize(("name", "half"), [("poly", 0.5**0.9), ("cosine", 0.5), ("constant", 1.0)])
def test_schedules_start_at_one_and_have_their_published_middle(name: str, half: float) -> None:
    config = CONFIG.model_copy(update={"schedule": name})
    assert schedule(config, 0, 100) == 1
    assert schedule(config, 50, 100) == pytest.approx(half)


class Waiting(Points):
    """Takes time to give an item."""

    def __getitem__(self, draw: tuple[int, int]) -> tuple[float, float]:
        time.sleep(0.01)
        return super().__getitem__(draw)


def test_a_training_tells_how_long_it_waited_for_data(tmp_path: Path) -> None:
    output = tmp_path / "model.safetensors"
    config = CONFIG.model_copy(update={"epochs": 1})
    speed = engine.fit(
        Line(), Waiting(), config, execution=EXECUTION, output=output, fingerprint="", about={}
    )
    assert 0 < speed.waiting < 1
    assert speed.waiting * 10 / speed.items_per_second >= 10 * 0.01  # seconds


@pytest.mark.parametrize("group_by_image", [False, True])
def test_processes_that_read_change_nothing_also_when_killed_and_resumed(
    tmp_path: Path, group_by_image: bool
) -> None:
    config = CONFIG.model_copy(update={"group_by_image": group_by_image})
    alone = train(tmp_path / "alone", config)
    helped = Execution(workers=2, save_every=1)
    broken = tmp_path / "broken"
    with pytest.raises(Interrupted):
        train(broken, config, Points(5, signal.SIGTERM))
    assert file_hash(train(broken, config, execution=helped)) == file_hash(alone)
    assert file_hash(train(tmp_path / "helped", config, execution=helped)) == file_hash(alone)


SCORED = SelectedTraining(
    **{**CONFIG.model_dump(), "epochs": 5, "ema": 0.9, "keep": "best", "validation": {}}
)


class Slope:
    """Scores a line by its slope: the best one is that of an epoch in the middle."""

    def __init__(self, fatal_epoch: int | None = None, fatal_signal: int = signal.SIGKILL) -> None:
        self.fatal_epoch, self.fatal_signal = fatal_epoch, fatal_signal
        self.slopes: list[float] = []

    def __call__(self, model: nn.Module, is_ended: Callable[[], bool]) -> dict[str, float] | None:
        self.slopes.append(cast(Line, model).line.weight.item())
        torch.randn(3)  # as a data loader draws
        if len(self.slopes) == self.fatal_epoch:
            signal.raise_signal(self.fatal_signal)
        if is_ended():
            return None
        return {"mean_iou": -abs(self.slopes[-1] - 0.45), "overall_iou": 0.5}


def select(
    folder: Path,
    config: SelectedTraining = SCORED,
    validator: Slope | None = None,
    data: Points | None = None,
) -> tuple[Path, Slope]:
    """A training whose epochs are scored, and what scored them."""
    output, used = folder / "model.safetensors", validator or Slope()
    engine.fit(
        Line(),
        data or Points(),
        config,
        execution=EXECUTION,
        output=output,
        fingerprint="a",
        about={"kind": "line"},
        selection=Selection(config, used),
        first_epoch=config.first_epoch,
    )
    return output, used


def test_the_best_epoch_is_kept_and_the_earlier_one_of_equals(tmp_path: Path) -> None:
    output, scored = select(tmp_path / "best")
    rows = [row for row in read_json(output.with_name("losses.json")) if "kept" in row]
    best = max(range(5), key=lambda epoch: -abs(scored.slopes[epoch] - 0.45))
    assert 0 < best < 4
    assert [row["kept"] for row in rows] == [epoch == best for epoch in range(5)]
    assert [row["epoch"] for row in rows] == [1, 2, 3, 4, 5]
    assert load_file(output)["line.weight"].item() == scored.slopes[best]
    equal = SCORED.model_copy(update={"validation": Validation(metric="overall_iou")})
    output, scored = select(tmp_path / "equal", equal)
    assert load_file(output)["line.weight"].item() == scored.slopes[0]


def test_a_validation_changes_nothing_of_a_training(tmp_path: Path) -> None:
    last = SCORED.model_copy(update={"keep": "last", "validation": Validation(every=2)})
    output, scored = select(tmp_path / "scored", last)
    assert len(scored.slopes) == 3  # after epochs 2, 4 and 5
    assert file_hash(output) == file_hash(train(tmp_path / "plain", SCORED))


def test_a_training_ends_where_no_epoch_becomes_better(tmp_path: Path) -> None:
    config = SCORED.model_copy(update={"epochs": 9, "early_stopping": 2})
    data = Points()
    output, scored = select(tmp_path, config, data=data)
    rows = [row for row in read_json(output.with_name("losses.json")) if "kept" in row]
    kept = next(row["epoch"] for row in rows if row["kept"])
    assert len(scored.slopes) == len(rows) == kept + 2 < 9
    assert len(data.seen) == 10 * len(rows)


@pytest.mark.parametrize(("step", "epoch"), [(8, None), (None, 3)])
def test_a_training_killed_in_a_step_or_a_validation_keeps_the_same_epoch(
    tmp_path: Path, step: int | None, epoch: int | None
) -> None:
    unbroken, scored = select(tmp_path / "unbroken")
    command = (
        "import sys; from pathlib import Path; from tests import test_engine as t;"
        f"t.select(Path(sys.argv[1]), validator=t.Slope({epoch}), data=t.Points({step}))"
    )
    killed = subprocess.run(
        [sys.executable, "-c", command, str(tmp_path / "broken")], cwd=ROOT, capture_output=True
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()
    resumed, again = select(tmp_path / "broken")
    assert len(again.slopes) < len(scored.slopes)
    assert file_hash(resumed) == file_hash(unbroken)
    first, second = (p.with_name("losses.json").read_text() for p in (resumed, unbroken))
    assert first == second


@pytest.mark.parametrize("epoch", [2, 5])
def test_a_signal_ends_a_validation_which_is_repeated(tmp_path: Path, epoch: int) -> None:
    unbroken, scored = select(tmp_path / "unbroken")
    with pytest.raises(Interrupted, match=f"saved at step {3 * epoch} of 15"):
        select(tmp_path / "ended", validator=Slope(epoch, signal.SIGTERM))
    data = Points()
    resumed, again = select(tmp_path / "ended", data=data)
    assert again.slopes == scored.slopes[epoch - 1 :]
    assert len(data.seen) == 10 * (5 - epoch)
    assert file_hash(resumed) == file_hash(unbroken)


def test_a_training_goes_on_from_an_epoch_of_a_longer_schedule(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    config = SCORED.model_copy(update={"initialize": "shorter", "first_epoch": 3})
    data = Points()
    output, scored = select(tmp_path, config, data=data)
    assert {epoch for epoch, _ in data.seen} == {3, 4} and len(scored.slopes) == 2
    rows = [row for row in read_json(output.with_name("losses.json")) if "loss" in row]
    assert rows[0]["epoch"] == 4
    assert rows[0]["learning_rate"] == pytest.approx(0.1 * (1 - 11 / 15) ** 0.9)
    assert (
        "learning rate follows the poly schedule of 5 epochs from epoch 3 on: 0.438 of the full"
        " rate, where a training of 3 epochs ended at 0.138; the optimizer starts anew"
    ) in caplog.text
