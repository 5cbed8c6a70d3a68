"""Every option of risflow, typed once: one section per step, defaults are the published values.

Nothing here imports torch: the workflow loads this module whenever it is parsed. A section given
as JSON is the option text of its rule, so changing an option reruns its step and what follows.
"""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from stages.core.resources import DEFAULT_RESOURCES, Resources, Step
from stages.core.section import Count, Fraction, Positive, Rate, Section, Weight

Optimizer = Literal["adamw", "adam", "sgd"]
Schedule = Literal["poly", "cosine", "constant", "multistep"]


# ---------------------------------------------------------------------------------------- data


class RefShapes(Section):
    """The generated data set: what to draw."""

    seed: Count = 0
    size: Annotated[int, Field(ge=48, le=512)] = 96
    train_images: Positive = 500
    val_images: Positive = 150
    test_images: Positive = 75  # each of testA and testB
    generalized: bool = False  # gRefCOCO format, with no-target and multi-target expressions


class DatasetConfig(Section):
    """Where the annotations of a data set are and how to read them (configs/datasets/)."""

    source: Literal["refshapes", "refer", "grefcoco", "table"]
    annotations: Path | None = None  # refer: folder of refs(...).p and instances.json; table: file
    images: Path | None = None  # the folder that image names are relative to
    split_by: str | None = None  # refer: the name in refs(<split_by>).p
    on_bad_row: Literal["stop", "drop"] = "stop"
    overlap: Literal["union", "official"] = "union"  # pixels in two polygons of one object
    refshapes: RefShapes = RefShapes()


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


class Training(Section):
    """What the training loop needs to know, whatever it trains."""

    epochs: Positive
    batch_size: Positive  # items a step, over all devices and accumulation steps
    accumulate: Positive = 1  # forward passes a step
    learning_rate: Rate
    backbone_learning_rate: Weight
    optimizer: Optimizer = "adamw"
    weight_decay: Weight = 0.01
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.0  # of sgd
    schedule: Schedule = "poly"
    power: Rate = 0.9  # of the poly schedule
    milestones: tuple[Positive, ...] = ()  # of multistep: epochs after which the rates fall
    gamma: Annotated[float, Field(gt=0, lt=1)] = 0.1  # of multistep: to this share
    one_rate_first_epoch: bool = False  # learning_rate for all groups in the first epoch
    warmup_steps: Count = 0
    clip_norm: Rate | None = None
    ema: Annotated[float, Field(gt=0, lt=1)] | None = None  # decay of the averaged weights
    precision: Literal["auto", "float32", "bfloat16"] = "auto"  # auto: bfloat16 on a GPU
    save_every: Positive = 500  # steps between two resume states
    workers: Count = 0  # processes that read images, beside the one that trains
    group_by_image: bool = False  # an image's objects share a batch: faster, less varied batches
    seed: Count = 0


class PretrainClip(Training):
    """Contrastive pre-training of the small CLIP on scenes of its own."""

    epochs: Positive = 12
    batch_size: Positive = 96  # scenes: a masked one gives two pairs
    learning_rate: Rate = 2e-3
    backbone_learning_rate: Weight = 2e-3
    schedule: Schedule = "cosine"
    warmup_steps: Count = 30
    scenes: Positive = 12000
    crop_epochs: Count = 4  # the first of the epochs, on crops of single objects
    masked_fraction: Fraction = 0.5  # of the scenes: seen through a soft mask
    width: Positive = 12  # channels of the stem; the last feature map has 32 times as many
    text_width: Positive = 96
    embedding: Positive = 128


class Stage1(Training):
    """TRIS stage 1 (Liu et al., ICCV 2023): official args.py and scripts/train_stage1.sh."""

    epochs: Positive = 15
    batch_size: Positive = 48
    learning_rate: Rate = 5e-5
    backbone_learning_rate: Weight = 5e-6
    image_size: Positive = 320
    hidden: Positive = 1024
    negatives: Count = 3  # expressions of other objects, for each image
    weight_foreground: Weight = 1.0  # w1: the judge's cosine of the masked image and its text
    weight_classification: Weight = 5.0  # w4: image-text matching over the batch
    weight_negatives: Weight = 2.0  # w5: the judge's cosine with the negatives
    fusion: Weight = 0.1  # weight of the attention between image and text
    focal_power: Rate = 3.0
    focal_constant: Rate = 0.01


class Prms(Section):
    """Choice of the response map of each object (the paper's PRMS)."""

    batch_size: Positive = 64  # masked images a forward pass of the judge


class Labels(Section):
    """Confident labels by dense CRF: official step_refer/cam_to_ir_label.py."""

    foreground_threshold: Fraction = 0.3
    background_threshold: Fraction = 0.1
    iterations: Positive = 10
    gaussian_sxy: Rate = 3.0
    gaussian_compat: Rate = 3.0
    bilateral_sxy: Rate = 50.0
    bilateral_srgb: Rate = 5.0
    bilateral_compat: Rate = 10.0
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
    weights: Path | None = None  # ImageNet weights of the backbone (torchvision's file)
    crop_size: Annotated[int, Field(gt=0, multiple_of=4)] = 512  # pixels of the enlarged image
    input_scale: Literal[1, 2, 4] = 1  # factor by which images are enlarged: cells of 4, 2, 1 px
    radius: Annotated[int, Field(ge=2)] = 10


class Propagation(Section):
    """Random walk from response maps to pseudo masks: official make_ins_seg_labels.py."""

    radius: Annotated[int, Field(ge=2)] = 5
    beta: Rate = 10.0
    steps: Positive = 256  # 2 to the power of the official exp_times, 8
    background_threshold: Fraction = 0.25
    instances: bool = True
    cluster_threshold: Rate = 2.5  # pixels of displacement that still count as a center
    refinement_steps: Positive = 300


class TrisSegmentor(Training):
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
    dice: Weight = 0.0  # weight of a Dice term beside the published BCE
    expressions_per_object: Positive = 1  # expressions of an object in one step


class QuerySegmentor(Training):
    """What CRIS, ETRIS and DETRIS have in common.

    The official code trains the first epoch at one rate for all parameters, since its groups have
    no rate of their own until the schedule's first step; `one_rate_first_epoch` does the same.
    """

    optimizer: Optimizer = "adam"
    learning_rate: Rate = 1e-4
    weight_decay: Weight = 0.0
    schedule: Schedule = "multistep"
    milestones: tuple[Positive, ...] = (35,)
    epochs: Positive = 50
    channels: Annotated[int, Field(gt=0, multiple_of=16)] = 512  # of queries; 4 parts of positions
    layers: Positive = 3  # of the decoder
    heads: Positive = 8
    hidden: Positive = 512  # channels between the decoder's two linear layers
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.1
    dice: Weight = 0.0  # weight of a Dice term beside the published BCE
    expressions_per_object: Positive = 1  # expressions of an object in one step


class CrisSegmentor(QuerySegmentor):
    """CRIS (Wang et al., CVPR 2022): official config/*/cris_r50.yaml; CLIP RN50 or RN101.

    Expressions have 17 tokens (clip.context_length), 22 on RefCOCOg.
    """

    model: Literal["cris"] = "cris"
    batch_size: Positive = 64
    backbone_learning_rate: Weight = 1e-5  # of CLIP
    image_size: Positive = 416
    hidden: Positive = 2048


class EtrisSegmentor(QuerySegmentor):
    """ETRIS (Xu et al., ICCV 2023): official config/*/bridge_*.yaml; CLIP RN50, RN101, ViT-B-16.

    Expressions have 17 tokens (clip.context_length), 22 on RefCOCOg.
    """

    model: Literal["etris"] = "etris"
    batch_size: Positive = 32
    backbone_learning_rate: Weight = 1e-4  # of the bridge; CLIP itself is frozen
    image_size: Positive = 416
    bridge_channels: Positive = 64
    bridge_heads: Positive | None = None  # None: as published, 4 for residual CLIPs, 8 for others


class DinoSource(Section):
    """A DINOv2 with registers: timm's name of it, or a tiny one of no published weights."""

    model: Literal[
        "vit_base_patch14_reg4_dinov2",
        "vit_large_patch14_reg4_dinov2",
        "tiny",
    ] = "vit_base_patch14_reg4_dinov2"
    weights: Path | None = None  # Meta's dinov2_vit*14_reg4_pretrain.pth; None: random weights

    @property
    def files(self) -> list[Path]:
        """The files that it is read from."""
        return [self.weights] if self.weights is not None else []


class DetrisSegmentor(QuerySegmentor):
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


class RelaSegmentor(Training):
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
    backbone: Literal["resnet50", "swin_tiny", "swin_base", "swin_mini", "clip"] = "swin_base"
    backbone_weights: Path | None = None  # ImageNet weights; None: random (clip: the CLIP's own)
    text: Literal["bert", "bert_mini", "clip"] = "bert"
    text_weights: Path | None = None  # of bert-base-uncased; None: random (clip: the CLIP's own)
    text_layers: Positive | None = 10  # layers of BERT that learn; None: all, and its embeddings
    vocabulary: Path | None = None  # of bert-base-uncased; the other texts have the CLIP's words
    context_length: Annotated[int, Field(ge=4, le=512)] = 20  # tokens of BERT
    channels: Annotated[int, Field(gt=0, multiple_of=32)] = 256
    heads: Positive = 8
    pixel_layers: Positive = 6
    pixel_hidden: Positive = 1024
    regions: Positive = 10  # an expression's image is seen as regions x regions regions
    layers: Positive = 9  # official DEC_LAYERS counts one more
    hidden: Positive = 2048
    drop_path: Annotated[float, Field(ge=0, lt=1)] = 0.3  # of Swin
    dice: Weight = 0.0  # weight of a Dice term beside the published cross-entropies
    expressions_per_object: Positive = 1  # expressions of an object in one step

    @model_validator(mode="after")
    def _require_a_whole_clip(self) -> "RelaSegmentor":
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


# ------------------------------------------------------------------------------------- results


class Evaluation(Section):
    """What is scored."""

    splits: tuple[str, ...] = ("val",)
    batch_size: Positive = 64  # expressions a forward pass


class Report(Section):
    """The page."""

    examples: Annotated[int, Field(ge=1, le=200)] = 24  # rows of the picture grid


class Experiment(Section):
    """One experiment (configs/experiments/): only what differs from the published values."""

    dataset: str
    clip: ClipSource = ClipSource(model="RN50", weights=Path("data/weights/RN50.pt"))
    judge: ClipSource = ClipSource(model="ViT-B-32", weights=Path("data/weights/ViT-B-32.pt"))
    supervision: Literal["pseudo", "masks"] = "pseudo"
    reuse: str | None = None  # the experiment that stage 1 and the pseudo masks are taken from
    upper_bound: str | None = None  # the experiment on true masks that the report compares with
    shards: Positive = 1  # jobs over which passes over the train split are spread
    stage1: Stage1 = Stage1()
    prms: Prms = Prms()
    labels: Labels = Labels()
    affinity: Affinity = Affinity()
    propagation: Propagation = Propagation()
    segmentor: TrisSegmentor = TrisSegmentor()
    evaluation: Evaluation = Evaluation()
    report: Report = Report()
    resources: dict[Step, Resources] = Field(default_factory=dict)
    reasons: dict[str, str] = Field(default_factory=dict)  # section or option -> why it differs

    def resource(self, step: Step, name: str) -> int:
        """What the jobs of a step ask for: threads, gpu, mem_mb or runtime."""
        known = [self.resources.get(step), self.resources.get("default"), DEFAULT_RESOURCES]
        values = [getattr(resources, name) for resources in known if resources is not None]
        return next(value for value in values if value is not None)


class Settings(Section):
    """configs/config.yaml: which experiments there are to run, and where results go."""

    results: Path = Path("results")
    demo: str = "refshapes_tris"
