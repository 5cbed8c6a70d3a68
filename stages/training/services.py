"""Weights & Biases and MLflow, each through its own package.

Where runs go is set as their own pages say: WANDB_API_KEY, WANDB_MODE, WANDB_ENTITY and
WANDB_PROJECT; MLFLOW_TRACKING_URI and MLFLOW_EXPERIMENT_NAME. Both projects are `risflow` by
default. The identities of the runs are kept beside the model, so that a resumed training goes on
with them.
"""

import json
import logging
import os
import re
import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.config.recipes import flatten
from stages.runtime.errors import InputError
from stages.runtime.foreign_errors import one_line
from stages.storage.files import read_json, write_json
from stages.training.trackers import TrackedRun, Tracker

PROJECT = "risflow"
IDENTITIES = "tracked_runs.json"  # service: the identity of its run
LONGEST_PARAMETER = 6000  # characters that MLflow keeps

log = logging.getLogger(__name__)


class Guarded:
    """A service that fails ends its own tracking, and not the training."""

    def __init__(self, name: str, tracker: Tracker) -> None:
        self.name, self.tracker = name, tracker
        self.has_failed = False

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        self._try(lambda: self.tracker.scalars(step, values))

    def image(self, step: int, name: str, pixels: NDArray[np.uint8]) -> None:
        self._try(lambda: self.tracker.image(step, name, pixels))

    def close(self, is_finished: bool) -> None:
        self._try(lambda: self.tracker.close(is_finished))

    def _try(self, call: Callable[[], None]) -> None:
        if self.has_failed:
            return
        try:
            call()
        except Exception as error:  # of any kind: it is about the network, or a server
            self.has_failed = True
            reason = one_line(str(error)) or type(error).__name__
            log.warning("%s: %s; the training goes on without this tracker", self.name, reason)


class WandbRun:
    """A run of Weights & Biases: the experiment is its group, the stage its type of job."""

    def __init__(self, run: TrackedRun) -> None:
        import wandb

        experiment, _, stage = run.name.partition("/")
        identity = _known_identity(run, "wandb")
        try:
            self.run = wandb.init(
                project=os.environ.get("WANDB_PROJECT", PROJECT),
                name=run.name,
                group=experiment,
                job_type=stage or None,
                id=identity,
                # Offline runs of one identity become one when they are synchronized.
                resume="allow" if identity is not None else None,
                dir=str(run.folder),
                config=dict(run.options),
                settings=wandb.Settings(console="off", silent=True),
            )
        except Exception as error:  # of many kinds: no key, no network, an unknown project
            raise InputError(
                f"wandb: {one_line(str(error))}; needed `wandb login`, WANDB_API_KEY, or"
                " WANDB_MODE=offline"
            ) from None
        self.image_type = wandb.Image
        _keep_identity(run, "wandb", self.run.id)
        log.info("wandb: %s", self.run.url or self.run.settings.sync_dir)

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        self._log(step, values)

    def image(self, step: int, name: str, pixels: NDArray[np.uint8]) -> None:
        self._log(step, {name: self.image_type(pixels)})

    def _log(self, step: int, values: Mapping[str, Any]) -> None:
        if step >= self.run.step:  # what a resumed training repeats is there
            self.run.log(dict(values), step=step)

    def close(self, is_finished: bool) -> None:
        self.run.finish(exit_code=0 if is_finished else 1)


class MlflowRun:
    """A run of MLflow."""

    def __init__(self, run: TrackedRun) -> None:
        from mlflow import MlflowClient
        from mlflow.entities import Metric, Param

        self.metric_type = Metric
        self.last_steps: dict[str, int] = {}  # of a run that goes on
        identity = _known_identity(run, "mlflow")
        try:
            self.client = MlflowClient()
            if identity is not None:
                self._go_on(identity)
                return
            experiment = self._experiment()
            self.identity = self.client.create_run(experiment, run_name=run.name).info.run_id
            options = flatten(run.options).items()
            parameters = [Param(name, _parameter(value)) for name, value in options]
            self.client.log_batch(self.identity, params=parameters)
        except Exception as error:  # of many kinds: no server, no right, a damaged store
            raise InputError(
                f"mlflow: {one_line(str(error))}; needed a store or server that MLFLOW_TRACKING_URI"
                " names"
            ) from None
        _keep_identity(run, "mlflow", self.identity)
        log.info("mlflow: run %s", self.identity)

    def _experiment(self) -> str:
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME", PROJECT)
        known = self.client.get_experiment_by_name(name)
        identity = known.experiment_id if known else self.client.create_experiment(name)
        return str(identity)

    def _go_on(self, identity: str) -> None:
        self.identity = identity
        self.client.update_run(identity, status="RUNNING")
        for name in self.client.get_run(identity).data.metrics:
            history = self.client.get_metric_history(identity, name)
            self.last_steps[name] = max(metric.step for metric in history)

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        now = round(time.time() * 1000)  # milliseconds
        named = {_allowed(name): value for name, value in values.items()}
        metrics = [
            self.metric_type(name, value, now, step)
            for name, value in named.items()
            if step > self.last_steps.get(name, -1)  # a resumed training repeats some
        ]
        self.client.log_batch(self.identity, metrics=metrics)

    def image(self, step: int, name: str, pixels: NDArray[np.uint8]) -> None:
        self.client.log_image(self.identity, pixels, key=_allowed(name), step=step)

    def close(self, is_finished: bool) -> None:
        self.client.set_terminated(self.identity, "FINISHED" if is_finished else "KILLED")


def _allowed(name: str) -> str:
    """A name of a metric without the characters that MLflow refuses, as the + of pooled splits."""
    return re.sub(r"[^\w./ :-]", "_", name)


def _parameter(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return text[:LONGEST_PARAMETER]


def _known_identity(run: TrackedRun, service: str) -> str | None:
    """The run of a service that a resumed training goes on with; None: it begins one."""
    path = run.folder / IDENTITIES
    if run.is_new or not path.is_file():
        return None
    identity = read_json(path).get(service)
    return str(identity) if identity is not None else None


def _keep_identity(run: TrackedRun, service: str, identity: str) -> None:
    """Write down the run of a service, beside the model."""
    path = run.folder / IDENTITIES
    known = read_json(path) if path.is_file() else {}
    write_json(path, {**known, service: identity})
