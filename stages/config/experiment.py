"""One experiment: the options of all its steps."""

import re
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from stages.config.encoders import JudgeSource, WithClip
from stages.config.exports import Masks
from stages.config.figures import Figures
from stages.config.hub import File
from stages.config.resources import ExecutionStep, Resources, Step
from stages.config.section import Execution, Positive
from stages.config.segmentors import AnySegmentor, TrisOptions
from stages.config.steps import (
    Affinity,
    Assignment,
    Evaluation,
    Labels,
    Prms,
    Propagation,
    Report,
    Stage1,
)


class Experiment(Figures, WithClip):
    """One experiment (configs/experiments/): only what differs from the published values.

    `supervision` is what the segmentor learns from: true `masks`, the `pseudo` masks made here from
    text alone, those of another experiment (`pseudo:<experiment>`), or pseudo masks made here from
    what the segmentor of another experiment finds on train (`votes:<experiment>`): a next round.
    """

    base: str | None = None  # the experiment whose options hold where this file says nothing
    sweep: dict[str, tuple[Any, ...]] = Field(default_factory=dict)  # values: option -> all to try
    dataset: str  # a name of configs/datasets
    judge: JudgeSource = JudgeSource(
        model="ViT-B-32", weights=Path("data/weights/ViT-B-32.pt")
    )  # of stage 1
    supervision: str = "pseudo"  # masks, pseudo, pseudo:<experiment> or votes:<experiment>
    upper_bound: str | None = None  # the fully supervised experiment of its report
    shards: Positive | None = None  # jobs of a pass over a split; None: by the data set's size
    stage1: Stage1 = Stage1()
    prms: Prms = Prms()
    labels: Labels = Labels()
    affinity: Affinity = Affinity()
    propagation: Propagation = Propagation()
    assignment: Assignment = Assignment()
    segmentor: AnySegmentor = TrisOptions()
    trained_on_coco: bool = False  # whether weights named here are of COCO: then its report warns
    # Official weights of the segmentor, which then is not trained: no pseudo masks are made for it.
    checkpoint: File | None = None
    stage1_checkpoint: File | None = None  # official weights of TRIS stage 1, the same for it
    evaluation: Evaluation = Evaluation()
    report: Report = Report()
    masks: Masks = Masks()
    visualize: Literal["examples", "all"] = "examples"  # all: a PNG file of each expression, too
    resources: dict[Step, Resources] = Field(default_factory=dict)  # of a step, or of all (default)
    execution: dict[ExecutionStep, Execution] = Field(default_factory=dict)  # how they are computed
    reasons: dict[str, str] = Field(default_factory=dict)  # section or option -> why it differs

    @field_validator("supervision")
    @classmethod
    def _check_supervision(cls, value: str) -> str:
        if not re.fullmatch(r"masks|pseudo(:\w+)?|votes:\w+", value):
            raise ValueError("needed masks, pseudo, pseudo:<experiment> or votes:<experiment>")
        return value

    @model_validator(mode="after")
    def _require_stage1_for_its_checkpoint(self) -> "Experiment":
        if self.stage1_checkpoint is not None and self.supervision != "pseudo":
            raise ValueError(
                f"stage1_checkpoint with supervision {self.supervision}: no stage 1 here; needed"
                " supervision: pseudo"
            )
        return self

    @model_validator(mode="after")
    def _require_whole_squares(self) -> "Experiment":
        if self.evaluation.at_input_size and self.segmentor.resize_mode != "stretch":
            raise ValueError(
                f"evaluation.at_input_size with model {self.segmentor.model}, whose square has"
                " borders; needed a model that stretches images (tris, rela), or false"
            )
        return self

    @model_validator(mode="after")
    def _require_stages_of_masks(self) -> "Experiment":
        if not self.learns_from_text:
            absent = {"response", "labels", "pseudo_masks", "assigned"} & set(self.masks.stages)
            if absent:
                raise ValueError(
                    f"masks.stages: {sorted(absent)[0]}, which this experiment does not make;"
                    " needed predictions or ground_truth"
                )
        return self

    @model_validator(mode="after")
    def _require_execution_of_use(self) -> "Experiment":
        for step, section in self.execution.items():
            is_of_labels = {"make_labels": {True}, "default": {True, False}}.get(step, {False})
            useless = [n for n in section.model_fields_set if (n == "crf") not in is_of_labels]
            if useless:
                raise ValueError(
                    f"execution.{step}: {step} has no use for {', '.join(sorted(useless))}; crf is"
                    " of make_labels, the others are of trainings"
                )
        return self

    @property
    def figures(self) -> Figures:
        """What its scores are to be held against."""
        return Figures(published=self.published, expected=self.expected)

    def execution_of(self, step: ExecutionStep) -> Execution:
        """How a step is computed: what is set for it, or for all of them, or the defaults."""
        chosen: dict[str, Any] = {}
        for name in ("default", step):
            section = self.execution.get(name)
            chosen |= section.model_dump(exclude_unset=True) if section is not None else {}
        return Execution.model_validate(chosen)

    @property
    def mask_splits(self) -> tuple[str, ...]:
        """The splits whose masks are written for other tools."""
        return self.masks.splits or self.evaluation.splits

    @property
    def from_text(self) -> bool:
        """Whether no true mask is learned from."""
        return self.supervision != "masks"

    @property
    def learns_from_text(self) -> bool:
        """Whether its segmentor is trained here on pseudo masks."""
        return self.from_text and self.checkpoint is None

    @property
    def assigns(self) -> bool:
        """Whether the objects of an image compete for its pseudo masks."""
        return self.assignment.method is not None

    @property
    def pseudo_masks_of(self) -> str | None:
        """The other experiment that the pseudo masks are taken from, if there is one."""
        kind, _, name = self.supervision.partition(":")
        return name if name and kind == "pseudo" else None

    @property
    def votes_of(self) -> str | None:
        """The other experiment whose segmentor finds the objects, if there is one."""
        kind, _, name = self.supervision.partition(":")
        return name if kind == "votes" else None

    @property
    def learned_from(self) -> str | None:
        """The other experiment whose pseudo masks or votes it learns from, if there is one."""
        return self.pseudo_masks_of or self.votes_of
