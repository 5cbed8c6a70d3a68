"""CLIP (Radford et al., ICML 2021) as image features at four scales and features of expressions.

One class serves OpenAI's published weights and the small CLIP of the embedded data set. Parameters
have the names and the order of OpenAI's files, so that official checkpoints of models built on CLIP
load by key; open_clip tells how published weights were made. Departures from OpenAI's code:
expressions may be shorter than the positional embedding, which is then cut (attention is causal, so
this is exact); images may have any size, for which the pooling attention's positions are
interpolated as TRIS does (official CLIP/clip/model.py, AttentionPool2d); that attention computes
only its one used query, and projects what that asks for and reads, not every cell.

Shapes: B images, T expressions of L tokens, H x W pixels, D text width, E embedding.
"""

import json
import math
from pathlib import Path
from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stages.backbones.clip_layers import (
    LayerNorm,
    ResidualNetwork,
    Transformer,
    VisionTransformer,
)
from stages.config.encoders import ClipSource
from stages.runtime.errors import InputError
from stages.storage.matching import load_exactly
from stages.storage.weights import read_published

Module = TypeVar("Module", bound=nn.Module)
# Defaults of a description; networks with other options are not built here.
VISION = {
    **{"image_size": 224, "layers": 12, "width": 768, "patch_size": 16},
    **{"head_width": 64, "mlp_ratio": 4.0, "coordinates": False},
}
TEXT = {
    **{"context_length": 77, "vocab_size": 49408, "layers": 12, "width": 512, "heads": 8},
    "mlp_ratio": 4.0,
}
NOT_WEIGHTS = ("input_resolution", "context_length", "vocab_size")  # integers in OpenAI's files


class Clip(nn.Module):
    """CLIP from an open_clip style description: embed_dim, vision_cfg, text_cfg, quick_gelu."""

    causal_mask: Tensor

    def __init__(self, description: dict[str, Any], output_stride: int = 32) -> None:
        super().__init__()
        is_quick = description.get("quick_gelu", False)
        embedding = description["embed_dim"]
        text = TEXT | description["text_cfg"]
        width, context_length = text["width"], text["context_length"]
        # In this order, so that the same seed draws the same weights as in open_clip.
        visual = _vision(VISION | description["vision_cfg"], embedding, is_quick)
        words = nn.Embedding(text["vocab_size"], width)
        transformer = Transformer(width, text["layers"], text["heads"], text["mlp_ratio"], is_quick)
        nn.init.normal_(words.weight, std=0.02)
        self.positional_embedding = nn.Parameter(0.01 * torch.randn(context_length, width))
        transformer.draw()
        self.text_projection = nn.Parameter(width**-0.5 * torch.randn(width, embedding))
        self.logit_scale = nn.Parameter(torch.tensor(math.log(1 / 0.07)))
        self.visual: Any = visual
        self.transformer = transformer
        self.token_embedding = words
        self.ln_final = LayerNorm(width)
        no_later_word = torch.full((context_length, context_length), -torch.inf).triu(1)
        self.register_buffer("causal_mask", no_later_word, persistent=False)
        self.output_stride = output_stride
        if output_stride < 32:
            _leave_out_pooling(self.residual, output_stride)

    @property
    def residual(self) -> Any:
        """The image encoder, where it must be a ResidualNetwork."""
        if not isinstance(self.visual, ResidualNetwork):
            raise InputError("clip.model: a vision transformer; needed a residual CLIP (RN50)")
        return self.visual

    @property
    def channels(self) -> tuple[int, int, int, int]:
        """Channels of the four feature maps of `stages`."""
        blocks = (getattr(self.residual, f"layer{number}")[-1] for number in (1, 2, 3, 4))
        first, second, third, fourth = (block.conv3.out_channels for block in blocks)
        return first, second, third, fourth

    @property
    def strides(self) -> tuple[int, int, int, int]:
        """Pixels a cell of the four feature maps of `stages`."""
        limit = self.output_stride
        return 4, 8, min(16, limit), min(32, limit)

    @property
    def image_size(self) -> int:
        """Height and width, in pixels, of the images the model was trained on."""
        return self.visual.image_size

    @property
    def text_width(self) -> int:
        """D, the channels of a word's feature."""
        return self.token_embedding.embedding_dim

    @property
    def embedding(self) -> int:
        """E, the channels that images and expressions are compared in."""
        return self.text_projection.shape[1]

    @property
    def context_length(self) -> int:
        """The most tokens that an expression may have."""
        return self.positional_embedding.shape[0]

    def stages(self, images: Tensor) -> list[Tensor]:
        """Feature maps c1..c4 of images (B, 3, H, W), of stride 4, 8, 16, 32 or less."""
        visual = self.residual
        features = visual.stem(images)
        maps = []
        for layer in (visual.layer1, visual.layer2, visual.layer3, visual.layer4):
            features = layer(features)
            maps.append(features)
        return maps

    def encode_image(self, images: Tensor) -> Tensor:
        """Embedding (B, E), not normalized, of images (B, 3, H, W)."""
        if isinstance(self.visual, VisionTransformer):
            return self.visual(images)
        return self.pool(self.stages(images)[-1])

    def pool(self, features: Tensor) -> Tensor:
        """Embedding (B, E) of the last feature map (B, C, h, w), by the pooling attention."""
        attention = self.residual.attnpool
        height, width = features.shape[2:]
        cells = features.flatten(2).transpose(1, 2)  # (B, hw, C)
        cells = torch.cat([cells.mean(dim=1, keepdim=True), cells], dim=1)  # (B, 1 + hw, C)
        cells = cells + resize_positions(attention.positional_embedding, height, width)
        heads = attention.num_heads
        query = attention.q_proj(cells[:, 0]).unflatten(1, (heads, -1))  # (B, heads, c)
        # A single query: keys and values are projected where they are few, not at every cell.
        (key, key_bias), (value, value_bias) = (  # (heads, c, C), (heads, c)
            (layer.weight.unflatten(0, (heads, -1)), layer.bias.unflatten(0, (heads, -1)))
            for layer in (attention.k_proj, attention.v_proj)
        )
        asked = torch.einsum("bhk,hkc->bhc", query, key)  # (B, heads, C)
        scores = asked @ cells.mT + (query * key_bias).sum(2, keepdim=True)  # (B, heads, 1 + hw)
        read = (scores * query.shape[2] ** -0.5).softmax(dim=2) @ cells  # (B, heads, C)
        pooled = torch.einsum("bhc,hkc->bhk", read, value) + value_bias
        return attention.c_proj(pooled.flatten(1))

    def encode_text(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Features of the words (T, L, D) and of the whole expression (T, E) of tokens (T, L).

        The expression is read at its end token, the highest id; neither is normalized.
        """
        words = self.embed_text(tokens)
        words = self.transformer(words, attn_mask=self.mask(tokens))
        return self.finish_text(words, tokens)

    def embed_text(self, tokens: Tensor) -> Tensor:
        """What the text transformer starts from: (T, L, D) of tokens (T, L)."""
        length = tokens.shape[1]
        if length > self.context_length:
            raise InputError(
                f"tokens: {length} an expression; needed at most {self.context_length}, the"
                " positions of this CLIP (see clip.context_length)"
            )
        return self.token_embedding(tokens) + self.positional_embedding[:length]

    def mask(self, tokens: Tensor) -> Tensor:
        """Added to the attention of the text transformer: no word sees a later one (L, L)."""
        length = tokens.shape[1]
        return self.causal_mask[:length, :length]

    def finish_text(self, words: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Words (T, L, D) and expressions (T, E) from what the text transformer gave."""
        words = self.ln_final(words)
        ends = words[torch.arange(tokens.shape[0], device=tokens.device), tokens.argmax(dim=1)]
        return words, ends @ self.text_projection

    def forward(self, images: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Unit image features (B, E), unit expression features (T, E) and the scale of logits."""
        image_features = F.normalize(self.encode_image(images), dim=-1)
        text_features = F.normalize(self.encode_text(tokens)[1], dim=-1)
        return image_features, text_features, self.logit_scale.exp()


def load_clip(source: ClipSource, pretrained: bool = True) -> Clip:
    """The CLIP of a configuration, with its weights where it names some and if `pretrained`.

    Raises InputError for an unknown model, for weights of another architecture, and for a context
    longer than the model's.
    """
    clip = Clip(read_description(source), source.output_stride)
    if source.context_length > clip.context_length:
        raise InputError(
            f"clip.context_length: {source.context_length}; needed at most the "
            f"{clip.context_length} tokens of {source.model}"
        )
    if pretrained and source.weights is not None:
        state = read_published(source.weights)
        state = {name: tensor for name, tensor in state.items() if name not in NOT_WEIGHTS}
        load_exactly(clip, state, source.weights)
    return clip


def read_description(source: ClipSource) -> dict[str, Any]:
    """What Clip is built from: the content of a .json, or what open_clip knows under these names.

    The activation is the one that the weights of these names were trained with. open_clip itself
    goes by the model's name, and only warns where `pretrained` says otherwise, but for OpenAI's.
    Raises InputError for names that it does not know.
    """
    model = source.model
    if model.endswith(".json"):
        path = Path(model)
        if not path.is_file():
            raise InputError(f"clip.model: no file {model}; needed an open_clip style description")
        description = json.loads(path.read_text())
        absent = [key for key in ("embed_dim", "vision_cfg", "text_cfg") if key not in description]
        if absent:
            raise InputError(f"{model}: no {absent[0]}; needed embed_dim, vision_cfg, text_cfg")
        return _checked(description, model)
    name = model.replace("/", "-")
    import open_clip  # takes seconds, which the small CLIP need not wait for

    known = open_clip.get_model_config(name)
    if known is None:
        raise InputError(f"clip.model: {model}; needed a name of open_clip's (RN50, ViT-B-32)")
    tags = open_clip.list_pretrained_tags_by_model(name)
    if not open_clip.is_pretrained_cfg(name, source.pretrained):
        raise InputError(
            f"clip.pretrained: {source.pretrained}; needed one that open_clip knows of {model}:"
            f" {', '.join(tags)}"
        )
    trained_with = open_clip.get_pretrained_cfg(name, source.pretrained).get("quick_gelu", False)
    quick = name.endswith("-quickgelu") or source.pretrained == "openai" or trained_with
    return {**_checked(known, model), "quick_gelu": quick}


def _checked(description: dict[str, Any], model: str) -> dict[str, Any]:
    """The description, of networks that are built here; raises InputError for others."""
    known = {"vision_cfg": VISION, "text_cfg": TEXT}
    unknown = [f"{part}.{key}" for part in known for key in description[part].keys() - known[part]]
    if "custom_text" in description or unknown:
        reason = sorted(unknown)[0] if unknown else "custom_text"
        raise InputError(
            f"clip.model: {model} has {reason}; needed a CLIP whose image encoder is OpenAI's"
            " residual network or vision transformer, and its text encoder OpenAI's transformer"
        )
    return description


def frozen(module: Module) -> Module:
    """The module, in evaluation mode and without gradients of its own weights."""
    module = module.eval().requires_grad_(False)
    return module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # faster


def _vision(
    options: dict[str, Any], embedding: int, is_quick: bool
) -> ResidualNetwork | VisionTransformer:
    image_size, width, layers = (options[key] for key in ("image_size", "width", "layers"))
    if isinstance(layers, list):
        heads = 32 * width // options["head_width"]
        return ResidualNetwork(layers, embedding, heads, image_size, width, options["coordinates"])
    heads = width // options["head_width"]
    patch, ratio = options["patch_size"], options["mlp_ratio"]
    return VisionTransformer(image_size, patch, width, layers, heads, embedding, ratio, is_quick)


def _leave_out_pooling(visual: Any, output_stride: int) -> None:
    # CLIP's residual networks halve the resolution by average pools, which hold no weights.
    layers = [visual.layer4] if output_stride == 16 else [visual.layer3, visual.layer4]
    for layer in layers:
        layer[0].avgpool = nn.Identity()
        layer[0].downsample[0] = nn.Identity()


def resize_positions(positions: Tensor, height: int, width: int, mode: str = "bilinear") -> Tensor:
    """Positions (1 + s * s, C) for another grid: (1 + height * width, C).

    The first is of the class token or of the mean, the others are of the cells.
    """
    side = round((len(positions) - 1) ** 0.5)
    if (side, side) == (height, width):
        return positions
    grid = positions[1:].T.reshape(1, -1, side, side)
    grid = F.interpolate(grid, (height, width), mode=mode, align_corners=False)
    return torch.cat([positions[:1], grid.flatten(2)[0].T])
