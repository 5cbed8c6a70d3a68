"""Every option of risflow, typed once: one section per step, defaults are the published values.

The options of the segmentors are in stages/core/segmentors.py.

Nothing here imports torch: the workflow loads this module whenever it is parsed. A section given
as JSON is the option text of its rule, so changing an option reruns its step and what follows.
"""

import re
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import Field, field_validator, model_validator

from stages.core.resources import Resources, Step
from stages.core.section import (
    Count,
    Fraction,
    FramingName,
    Optimizer,
    Positive,
    Rate,
    Schedule,
    Section,
    Training,
    Weight,
)
from stages.core.segmentors import AnySegmentor, TrisSegmentor
from stages.core.segmentors import CrisSegmentor as CrisSegmentor
from stages.core.segmentors import DetrisSegmentor as DetrisSegmentor
from stages.core.segmentors import DinoSource as DinoSource
from stages.core.segmentors import EtrisSegmentor as EtrisSegmentor
from stages.core.segmentors import QuerySegmentor as QuerySegmentor
from stages.core.segmentors import RelaSegmentor as RelaSegmentor

# ---------------------------------------------------------------------------------------- data


class RefShapes(Section):
    """The generated data set: what to draw."""

    seed: Count = 0  # another one, another data set
    size: Annotated[int, Field(ge=48, le=512)] = 96  # pixels of a side
    train_images: Positive = 500
    val_images: Positive = 150
    test_images: Positive = 75  # each of testA and testB
    generalized: bool = False  # gRefCOCO format, with no-target and multi-target expressions


class DatasetConfig(Section):
    """Where the annotations of a data set are and how to read them (configs/datasets/)."""

    source: Literal["refshapes", "refer", "grefcoco", "referit", "lmdb", "table", "mix"]
    # refer, grefcoco: folder of refs(...).p and instances.json; referit: of <split>.pickle;
    # lmdb: of <split>.lmdb; table: file
    annotations: Path | None = None
    images: Path | None = None  # folder that image names are relative to; lmdb: of those taken out
    split_by: str | None = None  # refer: the name in refs(<split_by>).p
    on_bad_row: Literal["stop", "drop"] = "stop"  # stop at rows that are wrong, or leave them out
    overlap: Literal["union", "official"] = "union"  # pixels in two polygons of one object
    members: tuple[str, ...] = ()  # mix: the data sets that it is made of
    drop_evaluated_images: bool = True  # mix: do not train on images of the members' other splits
    published: dict[str, Positive] = Field(default_factory=dict)  # objects that each split has
    refshapes: RefShapes = RefShapes()  # what to draw


# ------------------------------------------------------------------------------------- weights


class ClipSource(Section):
    """A CLIP: open_clip's name of it (RN50, ViT-B-32), or a .json that describes a small one."""

    model: str
    weights: Path | None = None  # None: random weights
    output_stride: Literal[8, 16, 32] = 32  # pixels a cell of the last feature map
    context_length: Annotated[int, Field(ge=4, le=77)] = 20  # tokens, start and end included

    @property
    def files(self) -> list[Path]:
        """The files that it is read from."""
        described = [Path(self.model)] if self.model.endswith(".json") else []
        return described + ([self.weights] if self.weights is not None else [])


# ------------------------------------------------------------------------------------ training


class PretrainClip(Training):
    """Contrastive pre-training of the small CLIP on scenes of its own."""

    epochs: Positive = 12
    batch_size: Positive = 96  # scenes: a masked one gives two pairs
    learning_rate: Rate = 2e-3
    backbone_learning_rate: Weight = 2e-3
    schedule: Schedule = "cosine"
    warmup_steps: Count = 30
    scenes: Positive = 12000  # pictures of an epoch
    crop_epochs: Count = 4  # the first of the epochs, on crops of single objects
    masked_fraction: Fraction = 0.5  # of the scenes: seen through a soft mask
    width: Positive = 12  # channels of the stem; the last feature map has 32 times as many
    text_width: Positive = 96  # channels of the text transformer
    embedding: Positive = 128  # channels of the common space


class Stage1(Training):
    """TRIS stage 1 (Liu et al., ICCV 2023): official args.py and scripts/train_stage1.sh."""

    framing: ClassVar[FramingName] = "squeezed"
    epochs: Positive = 15
    batch_size: Positive = 48
    learning_rate: Rate = 5e-5
    backbone_learning_rate: Weight = 5e-6
    image_size: Positive = 320  # side of the square that the model sees, in pixels
    hidden: Positive = 1024  # channels that image and text meet in
    negatives: Count = 3  # expressions of other objects, for each image
    weight_foreground: Weight = 1.0  # w1: the judge's cosine of the masked image and its text
    weight_classification: Weight = 5.0  # w4: image-text matching over the batch
    weight_negatives: Weight = 2.0  # w5: the judge's cosine with the negatives
    fusion: Weight = 0.1  # weight of the attention between image and text
    focal_power: Rate = 3.0  # of the area term
    focal_constant: Rate = 0.01  # of the area term


class Prms(Section):
    """Choice of the response map of each object (the paper's PRMS)."""

    batch_size: Positive = 64  # masked images a forward pass of the judge


class Labels(Section):
    """Confident labels by dense CRF: official step_refer/cam_to_ir_label.py."""

    foreground_threshold: Fraction = 0.3  # of the map, whose maximum is 1
    background_threshold: Fraction = 0.1  # below it is surely background
    iterations: Positive = 10  # of the CRF
    gaussian_sxy: Rate = 3.0  # pixels; of the smoothness term
    gaussian_compat: Rate = 3.0  # its weight
    bilateral_sxy: Rate = 50.0  # pixels; of the term of like colors
    bilateral_srgb: Rate = 5.0  # steps of color, of 255
    bilateral_compat: Rate = 10.0  # its weight
    certainty: Annotated[float, Field(gt=0, lt=1)] = 0.7  # of the unary potential


class Affinity(Training):
    """The inter-pixel relation network: official run_sample_refer.py and train_irn.py."""

    epochs: Positive = 3
    batch_size: Positive = 24
    learning_rate: Rate = 0.1  # of the edge layers
    displacement_factor: Rate = 10.0  # how many times faster the displacement layers learn
    backbone_learning_rate: Weight = 0.0  # of the small backbone; the ResNet-50 is frozen
    optimizer: Optimizer = "sgd"
    weight_decay: Weight = 1e-4
    momentum: Annotated[float, Field(ge=0, lt=1)] = 1e-4  # official: also takes the weight decay
    backbone: Literal["resnet50", "small"] = "resnet50"
    weights: Path | None = Path("data/weights/resnet50.pth")  # of ImageNet, for the ResNet-50 only
    crop_size: Annotated[int, Field(gt=0, multiple_of=4)] = 512  # pixels of the enlarged image
    input_scale: Literal[1, 2, 4] = 1  # factor by which images are enlarged: cells of 4, 2, 1 px
    radius: Annotated[int, Field(ge=2)] = 10  # cells between the two of a pair, at most

    @property
    def files(self) -> list[Path]:
        """The files that it is read from."""
        return [self.weights] if self.weights is not None and self.backbone == "resnet50" else []


class Propagation(Section):
    """Random walk from response maps to pseudo masks: official make_ins_seg_labels.py."""

    radius: Annotated[int, Field(ge=2)] = 5  # cells of a step, at most
    beta: Rate = 10.0  # power of the affinity: higher stays closer
    steps: Positive = 256  # 2 to the power of the official exp_times, 8
    background_threshold: Fraction = 0.25  # of the walked map, whose maximum is 1
    instances: bool = True  # keep to instances that the displacement finds
    cluster_threshold: Rate = 2.5  # pixels of displacement that still count as a center
    refinement_steps: Positive = 300  # of the displacement


# ------------------------------------------------------------------------------------- results


class Evaluation(Section):
    """What is scored."""

    splits: tuple[str, ...] = ("val",)  # the splits that are predicted and scored
    batch_size: Positive = 64  # expressions a forward pass


class Report(Section):
    """The page."""

    examples: Annotated[int, Field(ge=1, le=200)] = 24  # best, median and worst ones together


Metric = Literal[  # those that the tables show
    "mean_iou",
    "overall_iou",
    "precision_50",
    "precision_70",
    "precision_90",
    "hit",
    "hit_mask",
    "g_iou",
    "c_iou",
    "n_acc",
    "t_acc",
]
Percent = Annotated[float, Field(ge=0, le=100)]


# Points around a published figure. Users of the official code told of retrainings that were 0.4 to
# 1.9 lower (ReLA, its issue 15), 1.2 lower (LAVT-RIS, 11) and 2.2 higher (ETRIS, 4).
RETRAINED = (-2.0, 2.0)


class Figures(Section):
    """What the scores of a segmentor are to be held against: split -> metric -> percent."""

    published: dict[str, dict[Metric, Percent]] = Field(default_factory=dict)  # of the paper
    expected: dict[str, dict[Metric, tuple[Percent, Percent]]] = Field(default_factory=dict)

    def ranges(self, split: str) -> dict[Metric, tuple[Percent, Percent]]:
        """What is expected: by what was measured, else as near to the paper as retrainings are."""
        low, high = RETRAINED
        published = self.published.get(split, {})
        around = {
            metric: (max(0.0, round(figure + low, 2)), min(100.0, round(figure + high, 2)))
            for metric, figure in published.items()
        }
        return self.expected.get(split, around)


class Compared(Section):
    """The figures of the experiments of a comparison, by name."""

    experiments: dict[str, Figures] = Field(default_factory=dict)


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
    segmentor: AnySegmentor = TrisSegmentor()
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


class RemoteFile(Section):
    """A public file, and where it belongs in data/."""

    path: Path  # in data/
    source: str  # the page that publishes it
    license: str  # as its page states it
    size: str | None = None  # where it is large, as people say it
    trained_on_coco: bool = False  # of weights
    urls: Annotated[tuple[str, ...], Field(min_length=1)]  # mirrors, in the order they are tried
    checksum: Annotated[str, Field(pattern=r"^(sha256|md5):[0-9a-f]{8,64}$")] | None = None
    unpack: Path | None = None  # a zip file: the folder that its content goes into
    gives: tuple[Path, ...] = ()  # patterns of what is in the archive: nothing is fetched if it is


class Download(Section):
    """What is fetched together."""

    contents: tuple[RemoteFile, ...]


class Downloads(Section):
    """configs/downloads.yaml: public data and weights, by the names of their targets."""

    downloads: dict[str, tuple[RemoteFile, ...]] = Field(default_factory=dict)


class Settings(Section):
    """configs/config.yaml: which experiments there are to run, and where results go."""

    results: Path = Path("results")  # the folder of all that is made
    demo: str = "refshapes_tris"  # the experiment of the target demo
    jobs_per_gpu: Positive = 1  # steps that may share a GPU of one machine
    cache_images: Literal["auto", "always", "never"] = "auto"  # resized once, for all epochs
    comparisons: dict[str, tuple[str, ...]] = Field(default_factory=dict)  # target -> experiments
