"""TRIS (Liu et al., Referring Image Segmentation Using Text Supervision, ICCV 2023), both stages.

Stage 1 learns response maps from images and their expressions alone; a frozen CLIP, the judge,
scores what its maps keep of an image. Stage 2 is a segmentor that is trained on masks.
Attribute names are those of the official checkpoints (model/model_stage1.py, model_stage2.py),
which load by key. Departures: CLIP's pooling attention is not computed; the judge encodes each
masked image once and its text features are precomputed; an image's features serve all its
expressions.

Shapes: B images, T expressions, P pairs of both, C channels, h x w cells, S x S pixels.
"""

from collections.abc import Sequence
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stages.backbones.clip import Clip, frozen, load_clip
from stages.config.section import ResizeModeName, Training
from stages.config.segmentors import TrisOptions
from stages.config.steps import Stage1
from stages.data import response_maps as response
from stages.models import losses
from stages.models.contrast import contrast_loss
from stages.models.groups import (
    backbone_and_head,
    is_clip_without_positions,
    optimizer_group,
)
from stages.models.judge import encode_masked, resize_images
from stages.models.layers import of_expressions, resize
from stages.models.masked_view import Hiding, measuring_nothing
from stages.models.teacher import Teacher
from stages.models.tris_attention import BilateralAttention, PixelAttention
from stages.runtime.distributed import gather_rows


class TrisStage1(nn.Module):
    """Cosine response of every image cell to every expression, after attention to each other."""

    resize_mode: ResizeModeName = "stretch"
    background_value = 0.0

    def __init__(self, config: Stage1, clip: Clip) -> None:
        super().__init__()
        self.config = config
        # Not trained: the official optimizer leaves it out.
        self.logit_scale = nn.Parameter(torch.tensor(1 / 0.07).log(), requires_grad=False)
        self.backbone = clip
        self.vis_project = nn.Conv2d(clip.channels[3], config.hidden, kernel_size=1)
        self.lan_project = nn.Linear(clip.embedding, config.hidden)
        self.attn_fusion = BilateralAttention(config.hidden)
        frozen_parts = [clip.residual.attnpool, clip.logit_scale]
        for module in frozen_parts:  # not used
            module.requires_grad_(False)

    def pairs(self, features: Tensor, expressions: Tensor) -> Tensor:
        """Scores (B, T, h, w) of images (B, C, h, w) and expressions (T, D), with joint attention.

        Used in training, where the expressions of other images are the contrast.
        """
        cells, texts = self._project(features, expressions)
        visual, textual = self.attn_fusion(cells, texts)
        cells = cells + self.config.fusion * visual
        texts = texts + self.config.fusion * textual  # (B, T, K)
        return self._scale(torch.einsum("bkhw,btk->bthw", cells, texts))

    def maps(
        self, features: Tensor, expressions: Tensor, image_index: Tensor | None = None
    ) -> Tensor:
        """Responses (P, h, w), before relu, of pairs with separate attention.

        Used in evaluation. Features are (P, C, h, w), or (B, C, h, w) of fewer images with
        `image_index` (P,) of each expression; expressions are (P, D).
        """
        cells, texts = self._project(features, expressions)
        key, value = self.attn_fusion.keys_and_values(cells)
        if image_index is not None:
            cells, key, value = cells[image_index], key[image_index], value[image_index]
        visual, textual = self.attn_fusion.alone(texts, key, value)
        cells = cells + self.config.fusion * visual
        texts = texts + self.config.fusion * textual  # (P, K)
        return self._scale(torch.einsum("pkhw,pk->phw", cells, texts))

    def forward(self, images: Tensor, tokens: Tensor, image_index: Tensor) -> Tensor:
        """Responses (P, h, w) of images (B, 3, S, S) to expressions of them with tokens (P, L)."""
        features = self.backbone.stages(images)[-1]
        _, expressions = self.backbone.encode_text(tokens)
        return self.maps(features, expressions, image_index)

    def predict(self, batch: dict[str, Tensor]) -> Tensor:
        """Response maps (P, S, S), zero outside the mask, of a batch like the segmentor's."""
        images = batch["images"]
        grids = self(images, batch["tokens"], batch["image_index"])
        return response.upsample(grids, (images.shape[2], images.shape[3])).relu()

    def _project(self, features: Tensor, expressions: Tensor) -> tuple[Tensor, Tensor]:
        cells = F.normalize(self.vis_project(features), dim=1)  # (B, K, h, w)
        return cells, F.normalize(self.lan_project(expressions), dim=1)  # (T, K)

    def _scale(self, cosines: Tensor) -> Tensor:
        return self.logit_scale.exp() * cosines.float()  # losses are taken in full precision

    def parameter_groups(self, config: Training) -> list[dict[str, Any]]:
        """The backbone and the new layers, with their learning rates."""
        head = [self.vis_project, self.lan_project, self.attn_fusion]
        return [
            optimizer_group(self.backbone.parameters(), config.backbone_learning_rate, config),
            optimizer_group(nn.ModuleList(head).parameters(), config.learning_rate, config),
        ]


def build_stage1(config: Stage1, pretrained: bool = True) -> TrisStage1:
    """With the published weights of its encoders if `pretrained`."""
    return TrisStage1(config, load_clip(config.clip, pretrained))


class Stage1Trainer(nn.Module):
    """Stage 1 with its losses and the judge, a frozen CLIP.

    `texts` (E, D) are the judge's features of all expressions of the data set.
    """

    texts: Tensor

    def __init__(
        self, config: Stage1, model: TrisStage1, judge: Clip, texts: Tensor, unknown: int = 0
    ) -> None:
        """`unknown` is the token that says nothing, of words that a masked view hides."""
        super().__init__()
        is_masked = config.masked_view.weight > 0
        self.hiding = Hiding(config.masked_view, unknown) if is_masked else None
        self.config = config
        self.model = model
        self.judge = frozen(judge)
        self.register_buffer("texts", F.normalize(texts.float(), dim=1), persistent=False)

    def forward(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Losses of images (B, 3, S, S) and tokens (B, L); see `Stage1` for their weights.

        `expression` (B,) and `negatives` (B, N) are rows of the judge's text features. The images
        are contrasted with the expressions of all processes.
        """
        config, images = self.config, batch["images"]
        features = self.model.backbone.stages(images)[-1]
        tokens, first = gather_rows(batch["tokens"])
        _, expressions = self.model.backbone.encode_text(tokens)
        scores = self.model.pairs(features, expressions)  # (B, T, h, w)
        # Each image with its own expression: (B, h, w).
        grids = scores[:, first : first + len(images)].diagonal().permute(2, 0, 1)
        maps = response.upsample(grids, (images.shape[2], images.shape[3])).sigmoid()
        masked = encode_masked(self.judge, resize_images(self.judge, images), maps)  # (B, D)
        named = {
            "foreground": losses.foreground_loss(
                (masked * self.texts[batch["expression"]]).sum(dim=1)
            ),
            "classification": losses.classification_loss(self._match(scores), first),
        }
        total = config.weight_foreground * named["foreground"]
        total = total + config.weight_classification * named["classification"]
        if config.negatives and config.weight_negatives:
            others = (masked[:, None] * self.texts[batch["negatives"]]).sum(dim=2)  # (B, N)
            named["negatives"] = losses.negatives_loss(others, config.bound_negatives)
            total = total + config.weight_negatives * named["negatives"]
        if config.contrast:
            flat = grids.flatten(1)
            named["contrast"] = contrast_loss(flat, flat > 0, batch["of_image"], batch["of_object"])
            total = total + config.contrast * named["contrast"]
        if self.hiding is not None:
            named["masked_view"] = self._learn_from(grids.detach().sigmoid(), self.hiding(batch))
            share = config.masked_view.weight
            total = (1 - share) * total + share * named["masked_view"]
        return {"loss": total, **named}

    def _learn_from(self, maps: Tensor, view: dict[str, Tensor]) -> Tensor:
        """How far the responses to a masked view are from maps (B, h, w) of the whole batch."""
        with measuring_nothing(self.model):
            features = self.model.backbone.stages(view["images"])[-1]
        _, expressions = self.model.backbone.encode_text(view["tokens"])
        return losses.mask_loss(self.model.maps(features, expressions), maps)

    def _match(self, scores: Tensor) -> Tensor:
        # Score of each image and expression (B, T): mean and peak of the response, and a penalty on
        # its share of the image, in competition with a background of score 1.
        flat = scores.flatten(2)
        background = torch.ones_like(flat[:, :1])
        shares = torch.cat([background, flat], dim=1).softmax(dim=1)[:, 1:].mean(dim=2)
        penalty = losses.focal_penalty(shares, self.config.focal_power, self.config.focal_constant)
        return flat.mean(dim=2) + flat.amax(dim=2) + penalty

    def train(self, mode: bool = True) -> "Stage1Trainer":
        super().train(mode)
        self.judge.eval()
        return self

    def kept(self) -> nn.Module:
        """The trained module, without the judge."""
        return self.model

    def parameter_groups(self, config: Training) -> list[dict[str, Any]]:
        groups = self.model.parameter_groups(config)
        if self.hiding is None:
            return groups
        return [*groups, optimizer_group([self.hiding.color], config.learning_rate, config)]


class TrisSegmentor(nn.Module):
    """Stage 2: expressions gate the image features of three scales; a decoder joins all four."""

    resize_mode, background_value = "stretch", 0.0

    def __init__(self, config: TrisOptions, clip: Clip) -> None:
        super().__init__()
        self.config = config
        self.backbone = clip
        first, second, third, fourth = clip.channels
        words, inner = clip.text_width, config.attention
        self.attention2 = PixelAttention(second, words, inner)
        self.attention3 = PixelAttention(third, words, inner)
        self.attention4 = PixelAttention(fourth, words, inner)
        width = config.decoder  # 64 as published
        self.reduced_c1 = ConvolutionBlock(first, width)
        self.reduced_c2 = ConvolutionBlock(second, 2 * width)
        self.reduced_c3 = ConvolutionBlock(third, 4 * width)
        self.reduced_c4 = ConvolutionBlock(fourth, 8 * width)
        self.final_seg1 = _mask_head(width // 2, width // 2)
        self.final_seg2 = _mask_head(width, width // 2)
        self.final_seg3 = _mask_head(2 * width, width)
        self.final_seg4 = _mask_head(4 * width, width)
        self.output4 = ConvolutionBlock(8 * width, 4 * width)
        self.output3 = ConvolutionBlock(4 * width, 2 * width)
        self.output2 = ConvolutionBlock(2 * width, width)
        self.output1 = ConvolutionBlock(width, width // 2)
        # The first convolution rounds up what the pools after it round down.
        cells = [(config.image_size + 1) // stride for stride in clip.strides[1:]]
        self.positions = nn.ModuleList(
            map(Positions, clip.channels[1:], cells) if config.positions else ()
        )
        for module in (clip.residual.attnpool, clip.logit_scale, clip.text_projection):  # not used
            module.requires_grad_(False)

    def decode(self, batch: dict[str, Tensor]) -> list[Tensor]:
        """Decoder features (T, C, h, w), finest first, of images (I, 3, S, S) and tokens (T, L).

        `image_index` (T,) names each expression's image.
        """
        c1, *coarser = self.backbone.stages(batch["images"])
        for number, positions in enumerate(self.positions):
            coarser[number] = positions(coarser[number])
        c2, c3, c4 = coarser
        words, _ = self.backbone.encode_text(batch["tokens"])
        index = batch["image_index"]
        skip1 = of_expressions(self.reduced_c1(c1), index)
        skip2 = self.reduced_c2(self.attention2(c2, words, index) + of_expressions(c2, index))
        skip3 = self.reduced_c3(self.attention3(c3, words, index) + of_expressions(c3, index))
        skip4 = self.reduced_c4(self.attention4(c4, words, index) + of_expressions(c4, index))
        out4 = resize(self.output4(skip4), skip3.shape[2:])
        out3 = resize(self.output3(out4 + skip3), skip2.shape[2:])
        out2 = resize(self.output2(out3 + skip2), skip1.shape[2:])
        return [self.output1(out2 + skip1), out2, out3, out4]

    def outputs(self, batch: dict[str, Tensor]) -> list[Tensor]:
        """Mask logits (T, S, S) of the four outputs, the finest first."""
        heads = (self.final_seg1, self.final_seg2, self.final_seg3, self.final_seg4)
        size = batch["images"].shape[2:]
        pairs = zip(heads, self.decode(batch), strict=True)
        return [resize(head(features), size).squeeze(1) for head, features in pairs]

    def forward(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Losses of the four outputs, `output1` the finest, against masks (T, S, S)."""
        return self.losses(self.outputs(batch), batch)

    def learn(self, batch: dict[str, Tensor]) -> tuple[dict[str, Tensor], Tensor]:
        """The losses, and the mask logits (T, S, S) that they are of."""
        outputs = self.outputs(batch)
        return self.losses(outputs, batch), outputs[0]

    def losses(self, outputs: Sequence[Tensor], batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """The losses of `forward`, of its outputs."""
        masks, weights = batch["masks"].float(), batch.get("weights")
        named: dict[str, Tensor] = {}
        dice = masks.new_zeros(())
        for number, logits in enumerate(outputs, 1):
            named[f"output{number}"] = losses.mask_loss(logits, masks, weights)
            if self.config.dice:
                dice = dice + losses.dice_loss(logits, masks, weights)
        total = torch.stack(list(named.values())).sum()
        if self.config.dice:
            named["dice"] = dice
            total = total + self.config.dice * dice
        return {"loss": total, **named}

    def predict(self, batch: dict[str, Tensor]) -> Tensor:
        """Mask logits (T, S, S); a mask is where they are positive."""
        logits = self.final_seg1(self.decode(batch)[0])
        return resize(logits, batch["images"].shape[2:]).squeeze(1)

    def kept(self) -> nn.Module:
        """The trained module: all of it."""
        return self

    def parameter_groups(self, config: Training) -> list[dict[str, Any]]:
        """The backbone without CLIP's positions, and the others, as published."""
        return backbone_and_head(self, is_clip_without_positions, config)


class TaughtTris(nn.Module):
    """Stage 2 with a loss of consistency with a slow copy of itself (official --model_ema)."""

    def __init__(self, model: TrisSegmentor) -> None:
        super().__init__()
        self.model, self.teacher = model, Teacher(model)

    def forward(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """The segmentor's losses, and `consistency` of each of its outputs with the teacher's."""
        outputs = self.model.outputs(batch)
        with torch.no_grad():
            taught = self._copy.outputs(batch)
        named = self.model.losses(outputs, batch)
        pairs = zip(outputs, taught, strict=True)
        consistency = torch.stack([losses.consistency_loss(*pair) for pair in pairs]).sum()
        total = named["loss"] + self.model.config.consistency * consistency
        return {**named, "loss": total, "consistency": consistency}

    def train(self, mode: bool = True) -> "TaughtTris":
        super().train(mode)
        # The official copy is made before its model is set to train: CLIP's norms stay as they are.
        self._copy.backbone.eval()
        return self

    @property
    def _copy(self) -> TrisSegmentor:
        return cast(TrisSegmentor, self.teacher.model)

    def kept(self) -> nn.Module:
        """The trained module, without the teacher."""
        return self.model

    def parameter_groups(self, config: Training) -> list[dict[str, Any]]:
        return self.model.parameter_groups(config)


def build_tris(config: TrisOptions, pretrained: bool = True) -> TrisSegmentor:
    """With the published weights of its encoders if `pretrained`."""
    return TrisSegmentor(config, load_clip(config.clip, pretrained))


class Positions(nn.Module):
    """A learned vector for each row and each column of a map, added to it.

    It starts as a random slope for each channel, so that cells differ by place from the first step.
    """

    SLOPE = 0.5  # standard deviation

    def __init__(self, channels: int, cells: int) -> None:
        super().__init__()
        ramp = torch.linspace(-1, 1, cells)
        self.rows = nn.Parameter(self.SLOPE * torch.randn(channels, 1, 1) * ramp[:, None])
        self.columns = nn.Parameter(self.SLOPE * torch.randn(channels, 1, 1) * ramp)

    def forward(self, features: Tensor) -> Tensor:
        """(I, C, h, w) to the same."""
        return features + self.rows + self.columns


class ConvolutionBlock(nn.Module):
    """3 x 3 convolution, batch norm and a leaky unit of learned slope."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel_size=3, padding=1, bias=False)
        self.bn = nn.BatchNorm2d(outputs)
        self.relu = nn.PReLU()

    def forward(self, features: Tensor) -> Tensor:
        return self.relu(self.bn(self.conv(features)))


def _mask_head(inputs: int, hidden: int) -> nn.Sequential:
    mask = nn.Conv2d(hidden, 1, kernel_size=1, bias=False)
    return nn.Sequential(ConvolutionBlock(inputs, hidden), mask)
