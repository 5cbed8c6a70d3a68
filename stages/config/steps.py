"""Options of the steps; defaults are the published values, their source in each docstring."""

import re
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import Field, field_validator, model_validator

from stages.config.encoders import ClipSource, WithClip, require_two_cells
from stages.config.hub import File
from stages.config.section import (
    Count,
    EmptyResponse,
    Fraction,
    Optimizer,
    Positive,
    Precision,
    Rate,
    ResizeModeName,
    Schedule,
    Section,
    Training,
    Weight,
    require_least,
)
from stages.config.selection import SelectedTraining

AssignmentMethod = Literal["greedy", "hungarian"]
Candidates = Literal["masks", "parts", "both", "regions", "all"]
CELL = 4  # pixels of the enlarged image, a side of a cell of the affinity network


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
    # To know places: coordinates in the image encoder, pairs that only places tell apart, and first
    # so many epochs on texts of nothing but a place. Else none of this.
    place_epochs: Count = 0
    texts: Positive = 1  # of each image, which takes far longer to encode than a text
    width: Positive = 12  # channels of the stem; the last feature map has 32 times as many
    text_width: Positive = 96  # channels of the text transformer
    embedding: Positive = 128  # channels of the common space

    @model_validator(mode="after")
    def _require_epochs_of_scenes(self) -> "PretrainClip":
        first = self.crop_epochs + self.place_epochs
        require_least("epochs", self.epochs, first + 1, "one of scenes after the first ones")
        return self

    @property
    def places(self) -> bool:
        """Whether it is to know places."""
        return self.place_epochs > 0


class PretrainDino(Training):
    """Distillation of the mini DINOv2 from the small CLIP, on scenes of its own."""

    epochs: Positive = 4
    batch_size: Positive = 32
    learning_rate: Rate = 2e-3
    backbone_learning_rate: Weight = 2e-3
    schedule: Schedule = "cosine"
    warmup_steps: Count = 50
    scenes: Positive = 4000


class MaskedView(Section):
    """Distillation with a masked view (MaskRIS, Chang et al., 2024): its published values."""

    weight: Fraction = 0.0  # of the masked view, beside the whole one; published: 0.5
    pixels: Fraction = 0.75  # of the images, hidden in patches
    patch: Positive = 32  # pixels a side
    words: Fraction = 0.15  # of the expressions, hidden


class Stage1(SelectedTraining, WithClip):
    """TRIS stage 1 (Liu et al., ICCV 2023): official args.py and scripts/train_stage1.sh."""

    resize_mode: ClassVar[ResizeModeName] = "stretch"
    epochs: Positive = 15
    batch_size: Positive = 48
    learning_rate: Rate = 5e-5
    backbone_learning_rate: Weight = 5e-6
    clip: ClipSource = ClipSource(model="RN50", weights=Path("data/weights/RN50.pt"))
    image_size: Positive = 320  # side of the square that the model sees, in pixels
    hidden: Positive = 1024  # channels that image and text meet in
    expressions_per_object: Positive | None = 1  # in one step; None: each is an item of its own
    negatives: Count = 3  # expressions of other objects, for each image
    weight_foreground: Weight = 1.0  # w1: the judge's cosine of the masked image and its text
    weight_classification: Weight = 5.0  # w4: image-text matching over the batch
    weight_negatives: Weight = 2.0  # w5: the judge's cosine with the negatives
    bound_negatives: bool = True  # keep that loss finite; the official one is not
    fusion: Weight = 0.1  # weight of the attention between image and text
    focal_power: Rate = 3.0  # of the area term
    focal_constant: Rate = 0.01  # of the area term
    contrast: Weight = 0.0  # of maps in one image; Segment-Select-Correct: 0.01
    masked_view: MaskedView = MaskedView()

    @model_validator(mode="after")
    def _fit(self) -> "Stage1":
        require_two_cells(self.image_size, self.clip)
        return self

    @property
    def files(self) -> list[Path]:
        """The files that it is read from."""
        return self.clip.files

    @property
    def tokenizer_files(self) -> list[Path]:
        return self.clip.tokenizer_files

    @property
    def num_tokens(self) -> int:
        """The tokens that it reads of an expression."""
        return self.clip.context_length


class Prms(Section):
    """Choice of the response map of each object (the paper's PRMS)."""

    batch_size: Positive = 64  # masked images a forward pass of the judge
    precision: Precision = "float32"


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
    weights: File | None = Path("data/weights/resnet50.pth")  # of ImageNet, for the ResNet-50 only
    crop_size: Annotated[int, Field(gt=0, multiple_of=CELL)] = 512  # pixels of the enlarged image
    input_scale: Literal[1, 2, 4] = 1  # factor by which images are enlarged: cells of 4, 2, 1 px
    radius: Annotated[int, Field(ge=2)] = 10  # cells between the two of a pair, at most

    @model_validator(mode="after")
    def _require_room_for_pairs(self) -> "Affinity":
        least = CELL * (2 * self.radius - 1)  # a pair fits in every direction
        require_least("crop_size", self.crop_size, least, f"for radius {self.radius}")
        return self

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
    empty_response: EmptyResponse = "empty"  # the mask of a map that is zero everywhere
    cluster_threshold: Rate = 2.5  # pixels of displacement that still count as a center
    refinement_steps: Positive = 300  # of the displacement

    only_of_masks: ClassVar[tuple[str, ...]] = (  # find_regions has no use for these
        "background_threshold",
        "instances",
        "empty_response",
        "cluster_threshold",
        "refinement_steps",
    )


class Assignment(Section):
    """Which object of an image each pseudo mask belongs to; not a step of TRIS."""

    method: AssignmentMethod | None = None  # None: there is no such step, each keeps its own
    # Pseudo masks, their connected parts, both, regions of the image (find_regions), or all three.
    candidates: Candidates = "both"
    least_area: Fraction = 0.01  # of the image, of a part or region
    # Above this IoU, two candidates are taken for the same region.
    overlap: Annotated[float, Field(ge=0, lt=1)] = 0.7
    weight_response: Weight = 1.0  # of the overlap with the object's response, beside the judge

    @property
    def needs_regions(self) -> bool:
        """Whether regions of the image are candidates, whichever object they are of."""
        return self.method is not None and self.candidates in ("regions", "all")


class Evaluation(Section):
    """What is scored."""

    splits: Annotated[tuple[str, ...], Field(min_length=1)] = (
        "val",
    )  # the splits that are predicted and scored
    batch_size: Positive = 64  # expressions a forward pass
    precision: Precision = "float32"
    # The mask of a model's map that is negative everywhere; TRIS's validate.py divides it by its
    # maximum, and so takes the whole image.
    empty_response: EmptyResponse = "empty"
    at_input_size: bool = False  # also at the size that the model sees, as ReLA's official scores
    labels: bool = False  # also score the CRF labels of these splits, which nothing else needs

    @field_validator("splits")
    @classmethod
    def _check_splits(cls, splits: tuple[str, ...]) -> tuple[str, ...]:
        for number, split in enumerate(splits):
            if not re.fullmatch(r"\w+", split):  # files have it in their names
                raise ValueError(f"{split!r}: needed letters, digits and _")
            if split in splits[:number]:
                raise ValueError(f"{split} stands twice; needed each split once")
        return splits


class Report(Section):
    """The page."""

    examples: Annotated[int, Field(ge=1, le=200)] = 24  # best, median and worst ones together
    # Expressions that can be searched, sorted and opened, spread over the split by their IoU.
    browser: Annotated[int, Field(ge=0, le=1000)] = 120
