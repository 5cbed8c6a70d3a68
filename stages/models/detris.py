"""DETRIS (Huang et al., Densely Connected Parameter-Efficient Tuning for RIS, AAAI 2025).

CLIP's text transformer and DINOv2 are frozen and learn through adapters. Those of the image blocks
attend to the words. Attribute names are those of the official checkpoints (model/segmenter.py,
model/fusion.py). Departure: the image blocks before the first adapter serve all expressions of an
image.

Shapes: I images, T expressions of L words, P prefix tokens, N cells, C channels, D text width.
"""

from typing import Any

from torch import Tensor, nn

from stages.backbones.clip import Clip, frozen, load_clip
from stages.backbones.clip_dense import to_map
from stages.backbones.dino import Dino, load_dino
from stages.config.section import require_multiple
from stages.config.segmentors import DetrisOptions
from stages.models.detris_adapters import SHARE, TextAdapter, VisualAdapter
from stages.models.layers import Decoder, GatedNeck, Projector, QuerySegmentor
from stages.runtime.errors import InputError


class DetrisSegmentor(QuerySegmentor):
    """Both encoders with adapters; only the text transformer of `clip` is used."""

    def __init__(self, config: DetrisOptions, clip: Clip) -> None:
        super().__init__()
        self.config = config
        dino = load_dino(config.dino)
        require_multiple("image_size", config.image_size, dino.patch, "patches of DINOv2")
        self.outputs = config.outputs
        del clip.visual
        self.txt_backbone: Clip = frozen(clip)
        self.dinov2: Dino = frozen(dino)
        if config.train_dino:
            dino.requires_grad_(True)
            dino.mask_token.requires_grad_(False)
        for block in _chosen(clip.transformer.resblocks, config.text_layers, "text_layers"):
            block.adapter = TextAdapter(clip.text_width, config.text_channels)
        for block in _chosen(dino.blocks, config.visual_layers, "visual_layers"):
            channels, inner = dino.channels, config.visual_channels
            block.adapter = VisualAdapter(channels, inner, clip.text_width)
        _chosen(dino.blocks, config.outputs, "outputs")
        inputs = (dino.channels, dino.channels, dino.channels)
        self.neck = GatedNeck(inputs, clip.embedding, config, strides=(1, 1, 1), residual=True)
        self.decoder = Decoder(config, clip.text_width)
        self.proj = Projector(clip.embedding, config.channels)

    def fuse(self, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """Queries (T, C, h, w), words (T, L, D) and expressions (T, E)."""
        words, expressions = self.read(batch["tokens"])
        maps = self.look(batch["images"], words, batch["image_index"])
        return self.neck(maps, expressions), words, expressions

    def read(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Words (T, L, D) and expressions (T, E) of tokens (T, L)."""
        clip = self.txt_backbone
        words, mask = clip.embed_text(tokens), clip.mask(tokens)
        for block in clip.transformer.resblocks:
            words = words + block.attention(block.ln_1(words), attn_mask=mask)
            change = block.mlp(block.ln_2(words))
            if hasattr(block, "adapter"):
                change = change + SHARE * block.adapter(words)
            words = words + change
        return clip.finish_text(words, tokens)

    def look(self, images: Tensor, words: Tensor, image_index: Tensor) -> list[Tensor]:
        """Three feature maps (T, C, h, w) of each expression's image."""
        dino = self.dinov2
        tokens = dino.embed(images)  # (I, P + N, C)
        maps, per_image = [], True
        block: Any
        for number, block in enumerate(dino.blocks):
            if hasattr(block, "adapter"):
                if per_image:
                    tokens, per_image = tokens[image_index], False  # (T, P + N, C)
                tokens = tokens + block.ls1(block.attn(block.norm1(tokens)))
                normed = block.norm2(tokens)
                change = SHARE * block.adapter(normed, words, dino.prefix)
                tokens = tokens + block.ls2(block.mlp(normed) + change)
            else:
                tokens = block(tokens)
            if number in self.outputs:
                maps.append(tokens[image_index] if per_image else tokens)
        tokens = tokens[image_index] if per_image else tokens
        maps.append(dino.norm(tokens))
        return [to_map(tokens[:, dino.prefix :]) for tokens in maps]

    def is_backbone(self, name: str) -> bool:
        """The adapters: the part of the encoders that learns."""
        return name.startswith(("txt_backbone.", "dinov2."))


def build_detris(config: DetrisOptions, pretrained: bool = True) -> DetrisSegmentor:
    """With the published weights of its encoders if `pretrained`."""
    if not pretrained:
        config = config.model_copy(update={"dino": config.dino.without_weights()})
    return DetrisSegmentor(config, load_clip(config.clip, pretrained))


def _chosen(blocks: nn.ModuleList, numbers: tuple[int, ...], option: str) -> list[nn.Module]:
    outside = [number for number in numbers if number >= len(blocks)]
    if outside:
        raise InputError(
            f"segmentor.{option}: {outside[0]}; needed numbers of blocks, 0 to {len(blocks) - 1}"
        )
    return [blocks[number] for number in sorted(set(numbers))]
