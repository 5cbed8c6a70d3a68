"""Options of the segmentors: published values as defaults, their source in each docstring."""

from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Discriminator, Field, Tag, model_validator

from stages.config.encoders import DinoSource
from stages.config.section import (
    Count,
    FramingName,
    Optimizer,
    Positive,
    Rate,
    Schedule,
    Section,
    Training,
    Weight,
)


class Segmentor(Training):
    """What all segmentors have in common."""

    framing: ClassVar[FramingName] = "squeezed"
    image_size: Positive  # side of the square that the model sees, in pixels
    dice: Weight = 0.0  # weight of a Dice term beside the published loss
    expressions_per_object: Positive | None = 1  # in one step; None: each is an item of its own

    def files_with(self, clip: Section) -> list[Path]:
        """The files that it is read from, those of the CLIP that it starts from among them."""
        return [*clip.files, *self.files]


class TrisOptions(Segmentor):
    """TRIS stage 2: official args.py and scripts/train_stage2.sh."""

    model: Literal["tris"] = "tris"
    epochs: Positive = 15
    batch_size: Positive = 48
    learning_rate: Rate = 5e-5
    backbone_learning_rate: Weight = 5e-6
    image_size: Positive = 320
    attention: Positive | None = None  # channels of the pixel attention; None: the stage's own
    output_stride: Literal[8, 16, 32] = 32  # of the backbone here; that of `clip` is for stage 1
    decoder: Annotated[int, Field(ge=2)] = 64  # channels at the finest scale; doubled at each next
    positions: bool = False  # add learned ones to the three coarser maps; the published has none


class QueryOptions(Segmentor):
    """What CRIS, ETRIS and DETRIS have in common.

    The official code trains the first epoch at one rate for all parameters, since its groups have
    no rate of their own until the schedule's first step; `one_rate_first_epoch` does the same.
    """

    framing: ClassVar[FramingName] = "letterbox"
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


class CrisOptions(QueryOptions):
    """CRIS (Wang et al., CVPR 2022): official config/*/cris_r50.yaml; CLIP RN50 or RN101.

    Expressions have 17 tokens (clip.context_length), 22 on RefCOCOg.
    """

    model: Literal["cris"] = "cris"
    batch_size: Positive = 64
    backbone_learning_rate: Weight = 1e-5  # of CLIP
    image_size: Positive = 416
    hidden: Positive = 2048


class EtrisOptions(QueryOptions):
    """ETRIS (Xu et al., ICCV 2023): official config/*/bridge_*.yaml; CLIP RN50, RN101, ViT-B-16.

    Expressions have 17 tokens (clip.context_length), 22 on RefCOCOg.
    """

    model: Literal["etris"] = "etris"
    batch_size: Positive = 32
    backbone_learning_rate: Weight = 1e-4  # of the bridge; CLIP itself is frozen
    image_size: Positive = 416
    bridge_channels: Positive = 64  # between both encoders
    bridge_heads: Positive | None = None  # None: as published, 4 for residual CLIPs, 8 for others


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
    image_size: Positive = 448
    dino: DinoSource = DinoSource()
    outputs: tuple[Count, Count] = (4, 8)  # image blocks whose output is used beside the last
    visual_layers: tuple[Count, ...] = (1, 3, 5, 7, 9, 11)  # image blocks with an adapter
    visual_channels: Annotated[int, Field(gt=0, multiple_of=16)] = 128
    text_layers: tuple[Count, ...] = (1, 3, 5, 7, 9, 11)  # text blocks with an adapter
    text_channels: Annotated[int, Field(gt=0, multiple_of=16)] = 64
    train_dino: bool = False  # also the blocks themselves: for one without published weights

    @property
    def files(self) -> list[Path]:
        """The files that it is read from, beside the CLIP's."""
        return self.dino.files


class RelaOptions(Segmentor):
    """GRES/ReLA (Liu et al., CVPR 2023): official configs/referring_*.yaml and what they extend."""

    model: Literal["rela"] = "rela"
    epochs: Positive = 34  # 150,000 steps of 48 are 34.4 passes over gRefCOCO's 209,344 sentences
    batch_size: Positive = 48
    learning_rate: Rate = 1e-5
    backbone_learning_rate: Weight = 1e-5  # official BACKBONE_MULTIPLIER has no effect
    weight_decay: Weight = 0.05
    schedule: Schedule = "multistep"
    milestones: tuple[Positive, ...] = (25, 32)  # steps 110,000 and 140,000
    clip_norm: Rate | None = 0.01
    image_size: Annotated[int, Field(gt=0, multiple_of=32)] = 480
    expressions_per_object: Positive | None = None
    backbone: Literal["resnet50", "swin_tiny", "swin_base", "swin_mini", "clip"] = "swin_base"
    backbone_weights: Path | None = None  # ImageNet weights; None: random (clip: the CLIP's own)
    text: Literal["bert", "bert_mini", "clip"] = "bert"
    text_weights: Path | None = None  # of bert-base-uncased; None: random (clip: the CLIP's own)
    text_layers: Positive | None = 10  # layers of BERT that learn; None: all, and its embeddings
    vocabulary: Path | None = None  # of bert-base-uncased; the other texts have the CLIP's words
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

    @property
    def files(self) -> list[Path]:
        """The files that it is read from, beside the CLIP's."""
        found = (self.backbone_weights, self.text_weights, self.vocabulary)
        return [path for path in found if path is not None]

    def files_with(self, clip: Section) -> list[Path]:
        """Without those of the CLIP, which is not read unless it gives the words."""
        return self.files if self.text == "bert" else super().files_with(clip)


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
        custom_error_message="no such model; needed tris, cris, etris, detris or rela",
    ),
]
