"""GRES/ReLA (Liu et al., CVPR 2023): masks of expressions that refer to no, one or many objects.

An image encoder, BERT, a pixel decoder and a region decoder (see `deformable` and `rela_decoder`)
predict which pixels belong to the target and whether there is one. Attribute names are
those of official checkpoints (gres_model/GRES.py), which load by `official_weights`. Departures:
where the image encoder does not read the expression, an image and its pixel decoder are computed
once for all its expressions; what the official optimizer leaves out is frozen (BERT's embeddings
and last two layers).

Shapes: I images, T expressions of L words, C channels, S x S pixels.
"""

import logging
from collections.abc import Iterator, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stages.backbones.bert import PADDING, Bert
from stages.backbones.clip import Clip, load_clip, read_description
from stages.backbones.resnet import ResNet50, torchvision_name
from stages.backbones.swin import SIZES, Swin, WordReader, without_tables
from stages.config.section import Training
from stages.config.segmentors import RelaOptions
from stages.models import losses
from stages.models.deformable import PixelDecoder
from stages.models.layers import resize
from stages.models.rela_decoder import DecoderOutput, RegionDecoder
from stages.runtime.distributed import mean_over_all
from stages.runtime.errors import InputError

log = logging.getLogger(__name__)

CLASS_WEIGHTS = (0.9, 1.1)  # official criterion.py: of background and target
MASK_WEIGHT = 5.0  # official configs, MASK_WEIGHT: of all terms together
TIE = 1e-8  # of equal probabilities: less than any difference of others near 1 in float32
SIDE_WEIGHT = 0.1  # official criterion.py: of the minimap and of the no-target decision
NORMS = (nn.LayerNorm, nn.GroupNorm, nn.BatchNorm2d)  # not subject to weight decay


class ClipImages(nn.Module):
    """A residual CLIP as image encoder, whose maps attend to the words as those of Swin do.

    It also holds the text encoder, which `ClipWords` uses.
    """

    reads_text = True

    def __init__(self, clip: Clip) -> None:
        super().__init__()
        self.clip = clip
        self.channels = clip.channels
        self.fusion = nn.ModuleList(
            WordReader(channels, clip.text_width) for channels in clip.channels
        )
        for module in (clip.residual.attnpool, clip.logit_scale, clip.text_projection):  # not used
            module.requires_grad_(False)

    def forward(
        self, images: Tensor, words: Tensor, is_word: Tensor, image_index: Tensor
    ) -> list[Tensor]:
        features = []
        for feature_map, reader in zip(self.clip.stages(images), self.fusion, strict=True):
            cells = feature_map[image_index].flatten(2).transpose(1, 2)  # (T, N, C)
            cells = cells + reader(cells, words, is_word)
            features.append(cells.transpose(1, 2).unflatten(2, feature_map.shape[2:]))
        return features


class ClipWords:
    """The text encoder of a CLIP that another module holds."""

    def __init__(self, clip: Clip) -> None:
        self.clip = clip
        self.width = clip.text_width

    def __call__(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        words, _ = self.clip.encode_text(tokens)
        return words, tokens != PADDING


# Images (I, 3, S, S), words (T, L, D), which of them are words (T, L) and image_index (T,) to four
# maps, finest first: one an image or, where the encoder `reads_text`, one an expression.
ImageEncoder = ResNet50 | Swin | ClipImages
TextEncoder = (
    Bert | ClipWords
)  # tokens (T, L) to words (T, L, D) and which of them are words (T, L)


class ReferringHead(nn.Module):
    """The two decoders, under their official name."""

    def __init__(self, config: RelaOptions, inputs: tuple[int, ...], text_width: int) -> None:
        super().__init__()
        self.pixel_decoder = PixelDecoder(
            inputs, config.channels, config.heads, config.pixel_hidden, config.pixel_layers
        )
        self.predictor = RegionDecoder(
            config.channels,
            text_width,
            config.regions**2,
            config.heads,
            config.hidden,
            config.layers,
        )

    def forward(
        self, features: list[Tensor], words: Tensor, image_index: Tensor | None
    ) -> DecoderOutput:
        """Features of expressions, or of images that `image_index` (T,) gives to expressions."""
        mask_features, maps = self.pixel_decoder(features)
        if image_index is not None:
            mask_features = mask_features[image_index]
            maps = [feature_map[image_index] for feature_map in maps]
        return self.predictor(maps, mask_features, words)


class RelaSegmentor(nn.Module):
    """Mask logits of an expression, and logits of whether it has a target."""

    resize_mode, background_value = "stretch", -1.0

    def __init__(
        self, config: RelaOptions, backbone: ImageEncoder, text_encoder: TextEncoder
    ) -> None:
        super().__init__()
        self.config = config
        self.backbone = backbone
        self.sem_seg_head = ReferringHead(config, backbone.channels, text_encoder.width)
        self.text_encoder = text_encoder

    def logits(self, batch: dict[str, Tensor]) -> DecoderOutput:
        """Low-resolution logits for images (I, 3, S, S) and tokens (T, L).

        `image_index` (T,) names each expression's image. Padding tokens are 0.
        """
        index = batch["image_index"]
        words, is_word = self.text_encoder(batch["tokens"])
        features = self.backbone(batch["images"], words, is_word, index)
        return self.sem_seg_head(features, words, None if self.backbone.reads_text else index)

    def forward(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Losses against masks (T, S, S) and `no_target` (T,), which may be left out if all 0."""
        return self.learn(batch)[0]

    def learn(self, batch: dict[str, Tensor]) -> tuple[dict[str, Tensor], Tensor]:
        """The losses, and the mask logits (T, S, S) that they are of."""
        output = self.logits(batch)
        masks = batch["masks"].float()
        side = self.config.regions
        # A region is of the target if the mask fills it where four pixels around its center say so.
        cells = resize(masks[:, None], (side, side))
        logits = resize(output.masks.float(), masks.shape[1:])
        no_target = batch.get("no_target", masks.new_zeros(len(masks)))
        minimap = output.minimap.transpose(1, 2)
        weights = batch.get("weights")
        named = {
            "mask": _cross_entropy(logits, masks, weights),
            "minimap": _cross_entropy(minimap, cells.flatten(1), weights),
            "no_target": _cross_entropy(output.no_target, no_target, weights),
        }
        total = named["mask"] + SIDE_WEIGHT * (named["minimap"] + named["no_target"])
        total = MASK_WEIGHT * total
        if self.config.dice:
            named["dice"] = losses.dice_loss(logits[:, 1] - logits[:, 0], masks, weights)
            total = total + self.config.dice * named["dice"]
        return {"loss": total, **named}, logits[:, 1] - logits[:, 0]

    def predict_generalized(self, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Scores (T, S, S), positive in the mask, and (T,), positive where there is no target.

        Scores are differences of probabilities, as the official evaluation compares them; where
        both are 0 or 1 in float32, which is background there, the logits decide. A mask is given
        even if there is no target.
        """
        output = self.logits(batch)
        logits = resize(output.masks.float(), batch["images"].shape[2:])
        return _margin(logits), _margin(output.no_target.float())

    def predict(self, batch: dict[str, Tensor]) -> Tensor:
        """Scores (T, S, S): a mask is where they are positive; nowhere if there is no target."""
        scores, no_target = self.predict_generalized(batch)
        return scores.masked_fill((no_target > 0)[:, None, None], -1.0)

    def kept(self) -> nn.Module:
        """The trained module: all of it."""
        return self

    def parameter_groups(self, config: Training) -> list[dict[str, Any]]:
        """Encoders and head, each with and without weight decay.

        As published, norms, embeddings and Swin's position tables outside BERT do not decay, and
        all of BERT does.
        """
        groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
        for name, module, parameter in self._trained():
            of_bert = name.startswith("text_encoder.")
            of_encoder = of_bert or name.startswith("backbone.")
            decays = of_bert or not (
                isinstance(module, (*NORMS, nn.Embedding)) or name.endswith("position_bias_table")
            )
            groups.setdefault((of_encoder, decays), []).append(parameter)
        return [
            {
                "params": parameters,
                "lr": config.backbone_learning_rate if of_encoder else config.learning_rate,
                "weight_decay": config.weight_decay if decays else 0.0,
            }
            for (of_encoder, decays), parameters in groups.items()
        ]

    def _trained(self) -> Iterator[tuple[str, nn.Module, nn.Parameter]]:
        for place, module in self.named_modules():
            for name, parameter in module.named_parameters(prefix=place, recurse=False):
                if parameter.requires_grad:
                    yield name, module, parameter


def build_rela(config: RelaOptions, pretrained: bool = True) -> RelaSegmentor:
    """A ReLA with the encoders of its options, and their published weights if `pretrained`.

    Its CLIP gives the encoders where the options say so, and BERT's number of words where BERT
    reads the CLIP's tokens. Raises InputError for weights of another architecture.
    """
    if config.backbone == "clip" and config.clip is not None:
        whole = load_clip(config.clip, pretrained)
        return RelaSegmentor(config, ClipImages(whole), ClipWords(whole))
    text = _bert(config)
    backbone: ResNet50 | Swin
    if config.backbone == "resnet50":
        backbone = ResNet50()
    else:
        backbone = Swin(SIZES[config.backbone], text.width, config.drop_path)
    if pretrained:
        named = (
            ("backbone", backbone, config.backbone_weights),
            ("text", text, config.text_weights),
        )
        for name, encoder, weights in named:
            if weights is None:
                log.warning("segmentor.%s_weights: none, %s starts from random ones", name, name)
            else:
                encoder.load_pretrained(weights)
    return RelaSegmentor(config, backbone, text)


def _bert(config: RelaOptions) -> Bert:
    if config.clip is None:
        text = Bert("base")
    else:
        text = Bert("mini", words=read_description(config.clip)["text_cfg"]["vocab_size"])
    if config.num_tokens > text.context_length:
        raise InputError(
            f"context_length: {config.num_tokens}; needed at most the {text.context_length} of"
            " this BERT"
        )
    if config.text_layers is not None:
        text.train_only(config.text_layers)
    return text


def official_weights(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The content of an official checkpoint under the names used here, as officially evaluated.

    The official loader skips `lang_weight` (rela's decoder overrides `_load_from_state_dict`), so
    that published results are those of its initial value, 0.
    """
    renamed = {}
    for name, tensor in without_tables(state).items():
        if name.startswith("backbone."):
            name = "backbone." + torchvision_name(name.removeprefix("backbone."))
        if name == "sem_seg_head.predictor.lang_weight":
            tensor = torch.zeros_like(tensor)
        if not name.endswith("embeddings.position_ids"):  # written by older transformers
            renamed[name] = tensor
    return renamed


def _cross_entropy(logits: Tensor, classes: Tensor, of_items: Tensor | None) -> Tensor:
    """Weighted mean over logits (T, 2, ...) and classes (T, ...): 1 only where exactly 1.

    `of_items` (T,) are weights of the expressions.
    """
    logits, classes = logits.float(), classes.long()
    background, target = (logits.new_full((), weight) for weight in CLASS_WEIGHTS)
    weights = torch.where(classes > 0, target, background)
    if of_items is not None:
        weights = weights * of_items.view(-1, *(1,) * (classes.ndim - 1))
    each = F.cross_entropy(logits, classes, reduction="none")
    return mean_over_all(each, weights, items=len(logits))


def _margin(logits: Tensor) -> Tensor:
    """How much more probable class 1 of logits (T, 2, ...) is than class 0: (T, ...).

    The losses leave it open where logits are as a whole, so that both may be far above 0.
    """
    background, target = logits.unbind(dim=1)
    margin = target.sigmoid() - background.sigmoid()
    return torch.where(margin == 0, (target - background).clamp(-TIE, TIE), margin)
