"""One experiment: the options of all its steps."""

import re
from pathlib import Path

from pydantic import Field, field_validator, model_validator

from stages.config.encoders import ClipSource
from stages.config.figures import Figures
from stages.config.resources import Resources, Step
from stages.config.section import Positive
from stages.config.segmentors import AnySegmentor, TrisOptions
from stages.config.steps import Affinity, Evaluation, Labels, Prms, Propagation, Report, Stage1


class Experiment(Figures):
    """One experiment (configs/experiments/): only what differs from the published values.

    `supervision` is what the segmentor learns from: true `masks`, the `pseudo` masks made here from
    text alone, or those of another experiment (`pseudo:<experiment>`).
    """

    dataset: str  # a name of configs/datasets
    clip: ClipSource = ClipSource(model="RN50", weights=Path("data/weights/RN50.pt"))
    judge: ClipSource = ClipSource(model="ViT-B-32", weights=Path("data/weights/ViT-B-32.pt"))
    supervision: str = "pseudo"  # masks, pseudo or pseudo:<experiment>
    upper_bound: str | None = None  # the experiment on true masks that the report compares with
    shards: Positive | None = None  # jobs of a pass over a split; None: by the data set's size
    stage1: Stage1 = Stage1()
    prms: Prms = Prms()
    labels: Labels = Labels()
    affinity: Affinity = Affinity()
    propagation: Propagation = Propagation()
    segmentor: AnySegmentor = TrisOptions()
    trained_on_coco: bool = False  # whether weights named here are of COCO: then its report warns
    checkpoint: Path | None = None  # official weights of the segmentor, which then is not trained
    stage1_checkpoint: Path | None = None  # official weights of TRIS stage 1, the same for it
    evaluation: Evaluation = Evaluation()
    report: Report = Report()
    resources: dict[Step, Resources] = Field(default_factory=dict)  # of a step, or of all (default)
    reasons: dict[str, str] = Field(default_factory=dict)  # section or option -> why it differs

    @field_validator("supervision")
    @classmethod
    def _check_supervision(cls, value: str) -> str:
        if not re.fullmatch(r"masks|pseudo(:\w+)?", value):
            raise ValueError("needed masks, pseudo or pseudo:<experiment>")
        return value

    @model_validator(mode="after")
    def _require_stage1_for_its_checkpoint(self) -> "Experiment":
        if self.stage1_checkpoint is not None and self.supervision != "pseudo":
            raise ValueError(
                f"stage1_checkpoint with supervision {self.supervision}: no stage 1 here; needed"
                " supervision: pseudo"
            )
        return self

    @property
    def figures(self) -> Figures:
        """What its scores are to be held against."""
        return Figures(published=self.published, expected=self.expected)

    @property
    def segmentor_files(self) -> list[Path]:
        """The weights that a training of the segmentor starts from."""
        return self.segmentor.files_with(self.clip)

    @property
    def from_text(self) -> bool:
        """Whether no true mask is learned from."""
        return self.supervision != "masks"

    @property
    def pseudo_masks_of(self) -> str | None:
        """The other experiment that the pseudo masks are taken from, if there is one."""
        return self.supervision.partition(":")[2] or None
