"""Options of the segmentors: published values as defaults, their source in each docstring."""

from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Discriminator, Field, Tag, model_validator

from stages.config.encoders import (
    ClipSource,
    DinoSource,
    WithClip,
    require_image_encoder,
    require_two_cells,
)
from stages.config.hub import File
from stages.config.section import (
    Count,
    Fraction,
    Optimizer,
    Positive,
    Rate,
    ResizeModeName,
    Schedule,
    TextField,
    Weight,
    require_least,
    require_multiple,
)
from stages.config.selection import SelectedTraining
from stages.config.steps import MaskedView

RN50_17 = ClipSource(model="RN50", weights=Path("data/weights/RN50.pt"), context_length=17)
VIT_17 = ClipSource(model="ViT-B-16", weights=Path("data/weights/ViT-B-16.pt"), context_length=17)


class Segmentor(SelectedTraining, WithClip):
    """What all segmentors have in common."""

    resize_mode: ClassVar[ResizeModeName] = "stretch"
    text_field: ClassVar[TextField] = "sent"  # of the two texts of an expression
    clip: ClipSource | None = None  # its encoders; each model has its own by default
    image_size: Positive  # side of the square that the model sees, in pixels
    dice: Weight = 0.0  # weight of a Dice term beside the published loss
    contrast: Weight = 0.0  # of maps in one image; Segment-Select-Correct: 0.01
    masked_view: MaskedView = MaskedView()
    least_score: Fraction = 0.0  # of a pseudo mask: objects of less certain ones are left out
    weight_by_score: bool = False  # the more certain a pseudo mask is, the more it counts
    expressions_per_object: Positive | None = 1  # in one step; None: each is an item of its own

    @property
    def files(self) -> list[Path]:
        """The files that it is read from."""
        return self.clip.files if self.clip is not None else []

    @property
    def tokenizer_files(self) -> list[Path]:
        return self.clip.tokenizer_files if self.clip is not None else []

    @property
    def num_tokens(self) -> int:
        """The tokens that it reads of an expression."""
        assert self.clip is not None  # but where a class says how many itself
        return self.clip.context_length


class TrisOptions(Segmentor):
    """TRIS stage 2: official args.py and scripts/train_stage2.sh."""

    model: Literal["tris"] = "tris"
    epochs: Positive = 15
    batch_size: Positive = 48
    learning_rate: Rate = 5e-5
    backbone_learning_rate: Weight = 5e-6
    clip: ClipSource = ClipSource(model="RN50", weights=Path("data/weights/RN50.pt"))
    image_size: Positive = 320
    attention: Positive | None = None  # channels of the pixel attention; None: the stage's own
    decoder: Annotated[int, Field(ge=2)] = 64  # channels at the finest scale; doubled at each next
    positions: bool = False  # add learned ones to the three coarser maps; the published has none
    consistency: Weight = 0.0  # agreement with an averaged teacher; 1: the official --model_ema

    @model_validator(mode="after")
    def _fit(self) -> "TrisOptions":
        require_two_cells(self.image_size, self.clip)
        if self.consistency and (self.contrast or self.masked_view.weight):
            given = f"consistency: {self.consistency:g} with contrast or masked_view"
            raise ValueError(f"{given}; needed one of them")
        return self


class QueryOptions(Segmentor):
    """What CRIS, ETRIS and DETRIS have in common.

    The official code trains the first epoch at one rate for all parameters, since its groups have
    no rate of their own until the schedule's first step; `one_rate_first_epoch` does the same.
    """

    resize_mode: ClassVar[ResizeModeName] = "letterbox"
    optimizer: Optimizer = "adam"
    learning_rate: Rate = 1e-4
    weight_decay: Weight = 0.0
    schedule: Schedule = "multistep"
    milestones: tuple[Positive, ...] = (35,)
    epochs: Positive = 50
    channels: Annotated[int, Field(gt=0, multiple_of=16)] = 512  # of queries; 4 parts of positions
    layers: Positive = 3  # of the decoder
    heads: Positive = 8  # of its attention
    hidden: Positive = 512  # channels between the decoder's two linear layers
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.1

    @model_validator(mode="after")
    def _require_whole_heads(self) -> "QueryOptions":
        if self.channels % self.heads:
            raise ValueError(
                f"heads: {self.heads}; needed a number that divides the {self.channels} channels"
            )
        return self


class CrisOptions(QueryOptions):
    """CRIS (Wang et al., CVPR 2022): official config/*/cris_r50.yaml; CLIP RN50 or RN101.

    Expressions have 17 tokens (clip.context_length), 22 on RefCOCOg.
    """

    model: Literal["cris"] = "cris"
    batch_size: Positive = 64
    backbone_learning_rate: Weight = 1e-5  # of CLIP
    clip: ClipSource = RN50_17
    image_size: Positive = 416
    hidden: Positive = 2048

    @model_validator(mode="after")
    def _fit(self) -> "CrisOptions":
        require_image_encoder(self.clip, "residual")
        require_multiple("image_size", self.image_size, 32, "residual CLIP")
        return self


class EtrisOptions(QueryOptions):
    """ETRIS (Xu et al., ICCV 2023): official config/*/bridge_*.yaml; CLIP RN50, RN101, ViT-B-16.

    Expressions have 17 tokens (clip.context_length), 22 on RefCOCOg.
    """

    model: Literal["etris"] = "etris"
    batch_size: Positive = 32
    backbone_learning_rate: Weight = 1e-4  # of the bridge; CLIP itself is frozen
    clip: ClipSource = RN50_17
    image_size: Positive = 416
    bridge_channels: Positive = 64  # between both encoders
    bridge_heads: Positive | None = None  # None: as published, 4 for residual CLIPs, 8 for others

    @model_validator(mode="after")
    def _fit(self) -> "EtrisOptions":
        require_image_encoder(self.clip, "residual", "transformer")
        if self.clip.patch is not None:
            require_multiple("image_size", self.image_size, self.clip.patch, "CLIP's patches")
        elif self.clip.image_encoder == "residual":
            require_multiple("image_size", self.image_size, 32, "residual CLIP")
        return self


class DetrisOptions(QueryOptions):
    """DETRIS (Huang et al., AAAI 2025): official config/*/DETRIS_base.yaml; CLIP ViT-B-16 text.

    DETRIS_large: milestones (35,), 50 epochs, visual_layers (2, 6, 10, 14, 18, 22), outputs
    (8, 16). Mixed: besides, visual_layers 1..23, text_layers 1..11, both channels 384.
    """

    model: Literal["detris"] = "detris"
    epochs: Positive = 65
    milestones: tuple[Positive, ...] = (35, 55)
    batch_size: Positive = 32
    backbone_learning_rate: Weight = 1e-4  # of the adapters
    clip: ClipSource = VIT_17  # only its text encoder is used
    image_size: Positive = 448
    dino: DinoSource = DinoSource()
    outputs: tuple[Count, Count] = (4, 8)  # image blocks whose output is used beside the last
    visual_layers: tuple[Count, ...] = (1, 3, 5, 7, 9, 11)  # image blocks with an adapter
    visual_channels: Annotated[int, Field(gt=0, multiple_of=16)] = 128
    text_layers: tuple[Count, ...] = (1, 3, 5, 7, 9, 11)  # text blocks with an adapter
    text_channels: Annotated[int, Field(gt=0, multiple_of=16)] = 64
    train_dino: bool = False  # also the blocks themselves: for one without published weights

    @model_validator(mode="after")
    def _fit(self) -> "DetrisOptions":
        require_multiple("image_size", self.image_size, self.dino.patch, "patches of DINOv2")
        return self

    @property
    def files(self) -> list[Path]:
        return [*super().files, *self.dino.files]


class RelaOptions(Segmentor):
    """GRES/ReLA (Liu et al., CVPR 2023): official configs/referring_*.yaml and what they extend."""

    text_field: ClassVar[TextField] = "raw"  # official refcoco_mapper.py
    model: Literal["rela"] = "rela"
    epochs: Positive = 34  # 150,000 steps of 48 are 34.4 passes over gRefCOCO's 209,344 sentences
    batch_size: Positive = 48
    learning_rate: Rate = 1e-5
    backbone_learning_rate: Weight = 1e-5  # official BACKBONE_MULTIPLIER has no effect
    weight_decay: Weight = 0.05
    schedule: Schedule = "multistep"
    milestones: tuple[Positive, ...] = (25, 32)  # steps 110,000 and 140,000
    max_grad_norm: Rate | None = 0.01
    image_size: Annotated[int, Field(gt=0, multiple_of=32)] = 480
    expressions_per_object: Positive | None = None
    backbone: Literal["resnet50", "swin_tiny", "swin_base", "swin_mini", "clip"] = "swin_base"
    clip: ClipSource | None = None  # needed where `backbone` or `text` reads it, and only there
    backbone_weights: File | None = None  # ImageNet weights; None: random (clip: the CLIP's own)
    text: Literal["bert", "bert_mini", "clip"] = "bert"
    text_weights: File | None = None  # of bert-base-uncased; None: random (clip: the CLIP's own)
    text_layers: Positive | None = 10  # layers of BERT that learn; None: all, and its embeddings
    vocabulary: File | None = None  # of bert-base-uncased; the other texts have the CLIP's words
    context_length: Annotated[int, Field(ge=4, le=512)] = 20  # tokens of BERT
    channels: Annotated[int, Field(gt=0, multiple_of=32)] = 256  # of pixels and regions
    heads: Positive = 8  # of each attention
    pixel_layers: Positive = 6  # of the pixel decoder
    pixel_hidden: Positive = 1024  # channels between its two linear layers
    regions: Positive = 10  # an expression's image is seen as regions x regions regions
    layers: Positive = 9  # official DEC_LAYERS counts one more
    hidden: Positive = 2048  # channels between the decoder's two linear layers
    drop_path: Annotated[float, Field(ge=0, lt=1)] = 0.3  # of Swin

    @model_validator(mode="after")
    def _require_a_whole_clip(self) -> "RelaOptions":
        if (self.backbone == "clip") != (self.text == "clip"):
            raise ValueError(
                f"backbone {self.backbone} and text {self.text}; needed clip for both or neither"
            )
        if self.channels % (2 * self.heads):
            raise ValueError(
                f"channels {self.channels}, heads {self.heads}; needed an even number each head"
            )
        return self

    @model_validator(mode="after")
    def _fit(self) -> "RelaOptions":
        if self.text == "bert":
            if self.clip is not None:
                raise ValueError(
                    f"clip: {self.clip.model}, which backbone {self.backbone} and text bert do not"
                    " read; needed none, or clip for both"
                )
        elif self.clip is None:
            raise ValueError(f"clip: none; needed the CLIP whose words text {self.text} reads")
        elif self.backbone == "clip":
            require_two_cells(self.image_size, self.clip)
        if self.backbone.startswith("swin"):
            require_least("image_size", self.image_size, 64, "two cells of 32 pixels")
        return self

    @property
    def files(self) -> list[Path]:
        optional = (self.backbone_weights, self.text_weights, self.vocabulary)
        return [*super().files, *(path for path in optional if path is not None)]

    @property
    def tokenizer_files(self) -> list[Path]:
        own = [self.vocabulary] if self.vocabulary is not None else []
        return [*super().tokenizer_files, *own]

    @property
    def num_tokens(self) -> int:
        return self.context_length if self.text == "bert" else super().num_tokens


def _tag(value: Any) -> str:
    model = value.get("model", "tris") if isinstance(value, dict) else getattr(value, "model", "")
    return f"<{model}>"


# An experiment's segmentor is told by its `model`; without one it is TRIS. Tags are in angle
# brackets because they show up in the places of findings, where `describe` leaves them out.
AnySegmentor = Annotated[
    Annotated[TrisOptions, Tag("<tris>")]
    | Annotated[CrisOptions, Tag("<cris>")]
    | Annotated[EtrisOptions, Tag("<etris>")]
    | Annotated[DetrisOptions, Tag("<detris>")]
    | Annotated[RelaOptions, Tag("<rela>")],
    Discriminator(
        _tag,
        custom_error_type="unknown_model",
        custom_error_message=(
            "no such model; needed a section with model: tris, cris, etris, detris or rela"
        ),
    ),
]
