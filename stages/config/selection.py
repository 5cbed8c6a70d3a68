"""Options of trainings that score a split while they run, and that start from given weights."""

import re
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from stages.config.hub import local_path
from stages.config.recipes import recipe
from stages.config.section import Count, EmptyResponse, Positive, Section, Training

Metric = Literal["mean_iou", "overall_iou", "precision_50"]
# They tell how a model comes about, and nothing of what it is.
ONLY_OF_TRAINING = ("validation", "keep", "early_stopping", "initialize", "first_epoch")


class Validation(Section):
    """A split that is scored by its true masks while a model is trained."""

    split: Annotated[tuple[str, ...], Field(min_length=1)] = ("val",)  # several are pooled
    metric: Metric = "mean_iou"  # tells the best epoch
    every: Positive = 1  # epochs from one validation to the next; the last epoch is always scored
    limit: Positive | None = None  # images at most, spread evenly over the split
    first_expressions: bool = False  # of each object the first expression alone, as CRIS does
    empty_response: EmptyResponse = "empty"  # as of `evaluation`
    batch_size: Positive = 64  # expressions a forward pass

    @field_validator("split", mode="before")
    @classmethod
    def _one_or_several(cls, value: object) -> object:
        return (value,) if isinstance(value, str) else value


class SelectedTraining(Training):
    """A training of a model that gives masks.

    `initialize` is an experiment, whose model of the same kind is trained on, or a file: one of our
    model files or an official checkpoint. `first_epoch` continues a training with raised `epochs`.
    """

    validation: Validation | None = None  # by default nothing is scored before the end
    keep: Literal["best", "last"] = "last"  # the epoch whose weights are the result
    early_stopping: Positive | None = None  # end after so many validations without a better one
    initialize: str | None = None  # an experiment or a file; None: the encoders' published weights
    first_epoch: Count = 0  # so many epochs of the schedule count as done, by `initialize`

    @field_validator("initialize")
    @classmethod
    def _require_a_name(cls, value: str | None) -> str | None:
        if value is not None and not value.strip():
            raise ValueError("needed the name of an experiment, or a file")
        if value is not None:
            local_path(Path(value))  # raises for what is no file of the hub
        return value

    @model_validator(mode="after")
    def _require_what_belongs_together(self) -> "SelectedTraining":
        if self.validation is None and self.keep == "best":
            raise ValueError("keep: best without validation; needed validation: {split: val}")
        if self.validation is None and self.early_stopping is not None:
            raise ValueError(
                f"early_stopping: {self.early_stopping} without validation; needed validation:"
                " {split: val}"
            )
        if self.first_epoch and self.initialize is None:
            raise ValueError(
                f"first_epoch: {self.first_epoch} without initialize; needed the experiment or the"
                " file that was trained for so many epochs"
            )
        if self.first_epoch >= self.epochs:
            raise ValueError(
                f"first_epoch: {self.first_epoch}, of epochs {self.epochs}; needed fewer, counted"
                " from 0"
            )
        return self

    @property
    def tokenizer_files(self) -> list[Path]:
        """The files of the model that are read to predict, too: the words that it knows."""
        return []

    @property
    def training_files(self) -> list[Path]:
        """The files that the training reads: the encoders' weights, or those it starts from."""
        if self.initialize is None:
            return self.files
        own = [self.initial_file] if self.initial_file is not None else []
        return [*self.tokenizer_files, *own]

    @property
    def initial_experiment(self) -> str | None:
        """The experiment whose model is trained on; a file has a / or a . in its name."""
        name = self.initialize
        return name if name is not None and re.fullmatch(r"\w+", name) else None

    @property
    def initial_file(self) -> Path | None:
        """The file whose weights are trained on."""
        if self.initialize is None or self.initial_experiment is not None:
            return None
        return local_path(Path(self.initialize).expanduser())


def training_recipe(section: SelectedTraining) -> dict[str, Any]:
    """What a training starts from counts by its content, whatever its name."""
    given = {"initialize": True} if section.initialize is not None else {}
    return recipe(section, "initialize") | given


def continuation_fault(config: SelectedTraining, earlier: Training) -> str | None:
    """Why `first_epoch` does not continue an earlier training; None if it does, or need not."""
    if not config.first_epoch:
        return None
    if earlier.epochs != config.first_epoch:
        return (
            f"first_epoch: {config.first_epoch}; {config.initialize} was trained for"
            f" {earlier.epochs} epochs: needed {earlier.epochs}"
        )
    if earlier.schedule != config.schedule:
        return (
            f"schedule: {config.schedule} from epoch {config.first_epoch} on continues nothing;"
            f" {config.initialize} was trained by {earlier.schedule}: needed that, or"
            " first_epoch: 0 for a training anew from its weights"
        )
    return None
