"""What options are made of: numbers with a range, the base of all sections, and trainings."""

from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator

from stages.config.trackers import TrackerName
from stages.runtime.errors import InputError

Positive = Annotated[int, Field(gt=0)]
Count = Annotated[int, Field(ge=0)]
Rate = Annotated[float, Field(gt=0)]
Weight = Annotated[float, Field(ge=0)]
Fraction = Annotated[float, Field(ge=0, le=1)]
Optimizer = Literal["adamw", "adam", "sgd"]
ResizeModeName = Literal[
    "stretch", "letterbox"
]  # of images into squares: see stages/data/resize_modes.py
# float32 is exact on every device. tf32 is PyTorch's float32 on a GPU: there convolutions round
# to 10 bits. bfloat16 keeps 8, by autocast.
Precision = Literal["float32", "tf32", "bfloat16"]
OnCollapse = Literal["stop", "warn"]  # see stages/storage/collapse.py
CrfName = Literal["auto", "torch", "pydensecrf"]  # see irnet/affinity/crf.py
EmptyResponse = Literal["empty", "whole_image"]  # the mask of a map without a positive value
TextField = Literal["sent", "raw"]  # of REFER: cleaned, or as people typed it
# poly_per_epoch counts finished epochs over all steps, as TRIS's train_stage2.py does: the rates
# hardly fall.
Schedule = Literal["poly", "poly_per_epoch", "cosine", "constant", "multistep"]


class Section(BaseModel):
    """Options of one step: immutable, unknown keys refused."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", protected_namespaces=(), allow_inf_nan=False
    )

    @field_validator("*", mode="before")
    @classmethod
    def _refuse_truth_for_numbers(cls, value: Any, info: ValidationInfo) -> Any:
        """`true` is no number: a learning rate of `true` would be 1."""
        hint: Any = cls.model_fields[str(info.field_name)].annotation
        if isinstance(value, bool) and _may_be(hint, int, float) and not _may_be(hint, bool):
            raise ValueError("needed a number")
        return value

    @field_validator("*", mode="after")
    @classmethod
    def _expand_home(cls, value: Any) -> Any:
        """A path that begins with ~ is in the home folder, as in a shell."""
        if not isinstance(value, Path) or not str(value).startswith("~"):
            return value
        try:
            return value.expanduser()
        except RuntimeError:
            raise ValueError("needed a path; no such user or home folder") from None

    @property
    def files(self) -> list[Path]:
        """The files that what these options describe is read from."""
        return []


def _may_be(hint: Any, *kinds: type) -> bool:
    """Whether an option of this type may be one of some kinds: `Positive | None` may be an int."""
    if get_origin(hint) is Annotated:
        return _may_be(get_args(hint)[0], *kinds)
    if get_origin(hint) in (Union, UnionType):
        return any(_may_be(one, *kinds) for one in get_args(hint))
    return hint in kinds


def require_multiple(option: str, value: int, cell: int, whose: str) -> None:
    """Raise InputError for an image that does not consist of whole cells."""
    if value % cell:
        below = max(cell, value // cell * cell)
        raise InputError(
            f"{option}: {value}; needed a multiple of {cell} ({whose}), such as {below} or"
            f" {below + cell}"
        )


def require_least(option: str, value: int, least: int, why: str) -> None:
    """Raise InputError for a number below the least one that can be."""
    if value < least:
        raise InputError(f"{option}: {value}; needed at least {least}, {why}")


class Training(Section):
    """What the training loop needs to know, whatever it trains."""

    epochs: Positive  # passes over the data
    batch_size: Positive  # items a step, over all devices and accumulation steps
    drop_last: bool = False  # leave out the last items of an epoch that do not fill a batch
    accumulate: Positive = 1  # forward passes a step
    learning_rate: Rate  # of what is new
    backbone_learning_rate: Weight  # of what was trained before
    optimizer: Optimizer = "adamw"
    weight_decay: Weight = 0.01
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.0  # of sgd
    schedule: Schedule = "poly"  # how the rates fall
    power: Rate = 0.9  # of the poly schedules
    milestones: tuple[Positive, ...] = ()  # of multistep: epochs after which the rates fall
    gamma: Annotated[float, Field(gt=0, lt=1)] = 0.1  # of multistep: to this share
    one_rate_first_epoch: bool = False  # learning_rate for all groups in the first epoch
    warmup_steps: Count = 0  # in which the rates rise
    max_grad_norm: Rate | None = None  # longer gradients are shortened to it
    ema: Annotated[float, Field(gt=0, lt=1)] | None = None  # decay of the averaged weights
    precision: Precision | Literal["auto"] = "auto"  # auto: bfloat16 on a GPU
    group_by_image: bool = False  # an image's objects share a batch: faster, less varied batches
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0  # of everything that is drawn


class Execution(Section):
    """How a training, or make_labels, is computed: the result is the same, on a GPU up to rounding.

    All but `crf` are of trainings.
    """

    workers: Count | None = None  # processes that read images; None: the threads, of a GPU's step
    save_every: Positive = 500  # steps between two resume states
    compile: bool = False  # the model by torch.compile, for batches of one size: minutes at first
    recompute: bool = False  # inner values again in the backward pass (Swin): slower, less memory
    deterministic: bool = False  # on a GPU the same bits each time, if slower; a CPU always does
    # Where curves and images go; csv is curves.csv beside the model, without images.
    trackers: tuple[TrackerName, ...] = ("tensorboard",)
    # Of what train_affinity and train_segmentor learn from, where all of it is empty: warn goes on.
    on_collapse: OnCollapse = "stop"
    # Of make_labels: the implementation of the dense CRF. On a GPU auto is torch; on a CPU it is
    # torch for images of two or more objects, and pydensecrf for the others.
    crf: CrfName = "auto"

    @field_validator("trackers")
    @classmethod
    def _require_each_once(cls, trackers: tuple[TrackerName, ...]) -> tuple[TrackerName, ...]:
        for number, name in enumerate(trackers):
            if name in trackers[:number]:
                raise ValueError(f"{name} stands twice; needed each tracker once")
        return trackers
