"""Trackers of a training: each has the same curves after an interruption as without one.

The tests of Weights & Biases and MLflow run where these are installed (`risflow[wandb,mlflow]`).
"""

import csv
import importlib
import logging
import re
import struct
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import Tensor

from stages.config.catalog import Catalog, contents_of
from stages.config.load import Configs, load_configs
from stages.config.requirements import missing_trackers
from stages.config.section import Execution
from stages.config.trackers import TrackerName, tracker_fault
from stages.runtime.errors import InputError
from stages.storage.files import read_json
from stages.training import engine, trackers
from stages.training.services import Guarded
from stages.training.trackers import TrackedRun, start_trackers
from tests.conftest import ROOT, file_hash
from tests.test_engine import CONFIG, Line, Points

NAMES = ("loss", "error", "learning_rate", "items_per_second", "waiting_for_data")
STEPS = list(range(1, 10))  # nine steps, each told
FAILS_AT, SAVED_AT = 6, 3


class Failing(Points):
    """Cannot be read from a batch on."""

    def collate(self, items: list[Any]) -> dict[str, Tensor]:
        if self.collated == FAILS_AT - 1:
            raise RuntimeError("the disk is gone")
        return super().collate(items)


@pytest.fixture(autouse=True)
def every_step_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "LOG_EVERY", 1)


def train(folder: Path, chosen: tuple[TrackerName, ...], data: Points | None = None) -> Path:
    output = folder / "model.safetensors"
    engine.fit(
        Line(),
        data or Points(),
        CONFIG,
        execution=Execution(save_every=SAVED_AT, trackers=chosen),
        output=output,
        fingerprint="a",
        about={},
        name="refshapes_tris/stage1",
        panel=lambda _: np.full((4, 6, 3), 200, np.uint8),
    )
    return output


def interrupted(folder: Path, *chosen: TrackerName) -> Path:
    """A training that fails at step 6, with its state of step 3, and goes on from there."""
    with pytest.raises(RuntimeError, match="the disk is gone"):
        train(folder, chosen, Failing())
    return train(folder, chosen)


def curves(folder: Path) -> dict[str, list[tuple[int, float]]]:
    read: dict[str, list[tuple[int, float]]] = {}
    with (folder / "curves.csv").open(newline="") as file:
        for row in csv.DictReader(file):
            read.setdefault(row["name"], []).append((int(row["step"]), float(row["value"])))
    return read


def test_an_interrupted_training_has_each_row_of_its_curves_once(tmp_path: Path) -> None:
    train(tmp_path / "whole", ("csv",))
    interrupted(tmp_path / "broken", "csv")
    whole, broken = curves(tmp_path / "whole"), curves(tmp_path / "broken")
    assert list(broken) == [f"train/{name}" for name in NAMES]
    for name in ("train/loss", "train/error", "train/learning_rate"):
        assert [step for step, _ in broken[name]] == STEPS
        assert broken[name] == whole[name]


def test_a_row_that_a_kill_has_cut_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "curves.csv"
    path.write_text("step,name,value\n1,train/loss,0.5\n2,train/loss,0.25\n3,train/lo")
    (tracker,) = start_trackers(["csv"], TrackedRun("a/b", tmp_path, {}, 1, False))
    tracker.scalars(2, {"train/loss": 0.2})
    tracker.close(True)
    assert path.read_text() == "step,name,value\n1,train/loss,0.5\n2,train/loss,0.2\n"


def test_an_interrupted_training_has_each_step_in_tensorboard_once(tmp_path: Path) -> None:
    interrupted(tmp_path, "tensorboard")
    board = EventAccumulator(str(tmp_path / "tensorboard"), size_guidance={"images": 0})
    board.Reload()
    assert [event.step for event in board.Scalars("train/loss")] == STEPS
    assert [event.step for event in board.Images("val")] == STEPS


def test_trackers_are_of_a_new_training_alone_and_change_no_weight(tmp_path: Path) -> None:
    plain = train(tmp_path / "plain", ())
    assert {path.name for path in plain.parent.iterdir()} == {plain.name, "losses.json"}
    train(tmp_path, ("csv",), Points())
    again = train(tmp_path, ("csv",))
    assert [step for step, _ in curves(tmp_path)["train/loss"]] == STEPS
    assert file_hash(again) == file_hash(plain)


# ------------------------------------------------------------------------ packages and options


def test_a_tracker_that_is_not_installed_is_named_with_its_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    monkeypatch.setattr("stages.config.trackers.find_spec", lambda name: None)
    with pytest.raises(InputError) as error:
        train(tmp_path, ("csv", "wandb"))
    assert str(error.value) == (
        'execution.trackers: wandb is not installed; needed pip install "risflow[wandb]"'
    )
    assert not (tmp_path / "curves.csv").exists()
    assert tracker_fault(["tensorboard", "csv"]) is None


def test_a_folder_of_offline_runs_is_not_taken_for_the_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "offline_runs").mkdir()  # Python can import it, as a package without code
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr("stages.config.trackers.SERVICES", ("offline_runs",))
    assert "offline_runs is not installed" in str(tracker_fault(["offline_runs"]))
    (tmp_path / "offline_runs" / "__init__.py").touch()
    importlib.invalidate_caches()
    assert tracker_fault(["offline_runs"]) is None


@pytest.fixture(scope="module")
def configs() -> Configs:
    return load_configs(ROOT / "configs")


def test_a_run_names_its_experiment_and_stage(configs: Configs, tmp_path: Path) -> None:
    changes = {"segmentor.epochs": 3}
    catalog = Catalog(configs, tmp_path, contents_of(tmp_path), changes)
    tris = catalog.products.of_experiment("refshapes_tris")
    names = {kind: catalog.run_name(tris[kind]) for kind in ("stage1", "affinity", "segmentor")}
    assert names == {kind: f"refshapes_tris/{kind}" for kind in names}
    pseudo = catalog.products.of_experiment("refshapes_cris_pseudo")
    assert catalog.run_name(pseudo["stage1"]) == "refshapes_beyond/stage1"
    assert catalog.run_name(pseudo["segmentor"]) == "refshapes_cris_pseudo/segmentor"
    changed = catalog.page("refshapes_cris_pseudo").trainings["segmentor"]
    assert changed.digest != pseudo["segmentor"].digest
    assert catalog.run_name(changed) == "refshapes_cris_pseudo/segmentor"


def test_only_trainings_that_are_not_done_need_their_trackers(
    configs: Configs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stages.config.trackers.find_spec", lambda name: None)
    options = {"execution.train_segmentor.trackers": ["wandb"]}
    changed = configs.with_changes(["refshapes_tris"], options)
    products = Catalog(changed, tmp_path, contents_of(tmp_path)).products
    segmentor = products.of_experiment("refshapes_tris")["segmentor"]
    assert missing_trackers([segmentor], tmp_path) == (
        "execution: train_segmentor: trackers: wandb is not installed;"
        ' needed pip install "risflow[wandb]"'
    )
    made = tmp_path / segmentor.folder / "model.safetensors"
    made.parent.mkdir(parents=True)
    made.touch()
    assert missing_trackers([segmentor], tmp_path) is None
    plain = Catalog(configs, tmp_path, contents_of(tmp_path)).products
    assert plain.of_experiment("refshapes_tris")["segmentor"].digest == segmentor.digest


def test_a_tracker_stands_once() -> None:
    with pytest.raises(ValueError, match="csv stands twice; needed each tracker once"):
        Execution(trackers=("csv", "tensorboard", "csv"))


# ------------------------------------------------------------------------------------ services


class Unreachable:
    """A service whose network is gone after the first step."""

    def __init__(self) -> None:
        self.calls = 0

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        self.calls += 1
        if step > 1:
            raise ConnectionError("no route\nto the host")

    def image(self, step: int, name: str, pixels: NDArray[np.uint8]) -> None:
        self.calls += 1

    def close(self, is_finished: bool) -> None:
        self.calls += 1


def test_a_service_that_fails_ends_its_tracking_and_not_the_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    service = Unreachable()
    monkeypatch.setitem(trackers.TRACKERS, "csv", lambda run: Guarded("service", service))
    with caplog.at_level(logging.WARNING):
        model = train(tmp_path, ("csv",))
    assert model.exists() and service.calls <= 3
    told = [record.message for record in caplog.records if "service" in record.message]
    assert told == [
        "service: no route to the host; the training goes on without this tracker",
    ]


@pytest.fixture
def offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder where services keep what they are told, without a network."""
    monkeypatch.chdir(tmp_path)
    for name, value in {
        "WANDB_MODE": "offline",
        "WANDB_ERROR_REPORTING": "false",
        "MLFLOW_TRACKING_URI": f"sqlite:///{tmp_path}/mlflow.db",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "DO_NOT_TRACK": "true",
    }.items():
        monkeypatch.setenv(name, value)
    yield tmp_path


@pytest.mark.filterwarnings("ignore")  # of the package
def test_wandb_goes_on_with_the_run_of_an_interrupted_training(offline: Path) -> None:
    pytest.importorskip("wandb")
    plain = train(offline / "plain", ())
    assert file_hash(interrupted(offline / "run", "wandb")) == file_hash(plain)
    identity = read_json(offline / "run/tracked_runs.json")["wandb"]
    first, second = sorted((offline / "run/wandb").glob("offline-run-*/run-*.wandb"))
    assert {path.stem for path in (first, second)} == {f"run-{identity}"}
    records = wandb_records(first)
    run = next(record.run for record in records if record.WhichOneof("record_type") == "run")
    assert (run.display_name, run.run_group, run.job_type) == (
        "refshapes_tris/stage1",
        "refshapes_tris",
        "stage1",
    )
    options = {update.key: update.value_json for update in run.config.update}
    assert options["batch_size"] == str(CONFIG.batch_size)
    assert wandb_steps(records) == [1, 2, 3, 4, 5]
    assert wandb_steps(wandb_records(second)) == [4, 5, 6, 7, 8, 9]
    exits = [wandb_exit(wandb_records(path)) for path in (first, second)]
    assert exits == [1, 0]


def wandb_records(path: Path) -> list[Any]:
    """What an offline run has kept: after a head of 7 bytes, a log of LevelDB's format."""
    from wandb.proto import wandb_internal_pb2

    content, at, data, records = path.read_bytes(), 7, b"", []
    while at + 7 <= len(content):
        left = 32768 - at % 32768  # of the block
        if left < 7:
            at += left
            continue
        length, kind = struct.unpack_from("<HB", content, at + 4)
        data += content[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # whole, or the last part of a record
            record = wandb_internal_pb2.Record()
            record.ParseFromString(data)
            records.append(record)
            data = b""
    return records


def wandb_steps(records: list[Any]) -> list[int]:
    """The steps that have a loss."""
    steps = []
    for record in records:
        items = {i.key or "/".join(i.nested_key): i.value_json for i in record.history.item}
        if "train/loss" in items:
            steps.append(int(items["_step"]))
    return steps


def wandb_exit(records: list[Any]) -> int:
    return next(r.exit.exit_code for r in records if r.WhichOneof("record_type") == "exit")


@pytest.mark.filterwarnings("ignore")  # of the package
def test_mlflow_goes_on_with_the_run_of_an_interrupted_training(offline: Path) -> None:
    mlflow = pytest.importorskip("mlflow")
    pytest.importorskip("sqlalchemy")  # mlflow-skinny has no store of its own
    plain = train(offline / "plain", ())
    with pytest.raises(RuntimeError, match="the disk is gone"):
        train(offline / "run", ("mlflow",), Failing())
    client = mlflow.MlflowClient()
    experiment = client.get_experiment_by_name("risflow")
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.info.status == "KILLED"
    assert file_hash(train(offline / "run", ("mlflow",))) == file_hash(plain)
    (run,) = client.search_runs([experiment.experiment_id])
    assert (run.info.run_name, run.info.status) == ("refshapes_tris/stage1", "FINISHED")
    assert run.info.run_id == read_json(offline / "run/tracked_runs.json")["mlflow"]
    assert run.data.params["batch_size"] == str(CONFIG.batch_size)
    history = client.get_metric_history(run.info.run_id, "train/loss")
    assert [metric.step for metric in history] == STEPS
    images = [item.path for item in client.list_artifacts(run.info.run_id, "images")]
    assert {int(found[1]) for path in images if (found := re.search(r"step\D(\d+)", path))} == set(
        STEPS
    )
