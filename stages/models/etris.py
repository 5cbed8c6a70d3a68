"""ETRIS (Xu et al., Bridging Vision and Language Encoders, ICCV 2023).

CLIP is frozen. A small bridge connects its image and text encoders after each third of their
blocks. Attribute names are those of the official checkpoints (model/segmenter.py,
model/bridger.py). As there, CLIP's positions learn, its batch norms follow the batches in training,
and padding is attended to. Departures: the image blocks before the first exchange serve all
expressions of an image; residual CLIPs of any output stride meet at the stride of their third map.

Shapes: I images, T expressions of L words, C channels, D text width, K channels of the bridge,
h x w cells, N = h * w.
"""

import torch.nn.functional as F
from torch import Tensor, nn

from stages.backbones.clip import Clip, frozen, load_clip
from stages.backbones.clip_dense import image_steps, make_dense, thirds, to_cells
from stages.backbones.clip_layers import VisionTransformer
from stages.config.segmentors import EtrisOptions
from stages.models.layers import (
    Decoder,
    GatedNeck,
    MultiplicativeAttention,
    Projector,
    QuerySegmentor,
    convolution,
    deconvolution,
)

Three = tuple[int, int, int]
HIDDEN = 128  # channels between the linear layers of a residual bridge's attention
DROPOUT = 0.1  # there
LAST = 2  # of the three stages


class EtrisSegmentor(QuerySegmentor):
    """A frozen CLIP, residual or vision transformer, and the bridge."""

    def __init__(self, config: EtrisOptions, clip: Clip) -> None:
        super().__init__()
        self.config = config
        make_dense(clip, config.image_size)
        self.backbone: Clip = frozen(clip)
        for name, parameter in clip.named_parameters():
            parameter.requires_grad_("positional_embedding" in name)
        transformer = isinstance(clip.visual, VisionTransformer)
        inputs, strides = _image_maps(clip)
        self.bridger = Bridge(inputs, clip.text_width, config, strides, transformer)
        neck = (inputs[0], inputs[1], clip.embedding)
        self.neck = GatedNeck(neck, clip.embedding, config, strides, residual=False)
        self.decoder = Decoder(config, clip.text_width)
        self.proj = Projector(clip.embedding, config.channels)

    def fuse(self, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """Queries (T, C, h, w), words (T, L, D) and expressions (T, E)."""
        clip, tokens = self.backbone, batch["tokens"]
        words, mask = clip.embed_text(tokens), clip.mask(tokens)
        steps = image_steps(clip)
        state = steps.start(batch["images"])
        maps: list[Tensor] = []
        shared: tuple[Tensor, Tensor] | None = None
        for stage, blocks in enumerate(thirds(clip.transformer.resblocks)):
            for block in blocks:
                words = block(words, attn_mask=mask)
            state = steps.advance(stage, state)
            if stage == 0:
                state = state[batch["image_index"]]
            features = steps.read(state)
            features, words, shared = self.bridger(stage, features, words, shared)
            state = steps.replace(state, features)
            maps.append(features)
        maps[LAST] = steps.finish(state)
        words, expressions = clip.finish_text(words, tokens)
        return self.neck(maps, expressions), words, expressions

    def is_backbone(self, name: str) -> bool:
        """The bridge; CLIP's positions learn at the rate of the rest, as published."""
        return name.startswith("bridger.")


def build_etris(config: EtrisOptions, pretrained: bool = True) -> EtrisSegmentor:
    """With the published weights of its encoders if `pretrained`."""
    return EtrisSegmentor(config, load_clip(config.clip, pretrained))


def _image_maps(clip: Clip) -> tuple[Three, Three]:
    """Channels of the three maps, and their ratio in size to the second."""
    if isinstance(clip.visual, VisionTransformer):
        width = clip.visual.conv1.out_channels
        return (width, width, width), (1, 1, 1)
    _, second, third, fourth = clip.channels
    _, fine, middle, coarse = clip.strides
    return (second, third, fourth), (middle // fine, 1, coarse // middle)


class Bridge(nn.Module):
    """At each stage image and words are projected, attend to each other, and are updated.

    The map of the first two stages is made smaller by its stride, that of the last larger.
    """

    zoom_in: nn.ModuleList
    zoom_out: nn.ModuleList
    linear1: nn.ModuleList
    linear2: nn.ModuleList
    fusion_v: nn.ModuleList
    fusion_t: nn.ModuleList
    ln_v: nn.ModuleList
    ln_t: nn.ModuleList

    def __init__(
        self,
        inputs: Three,
        words: int,
        config: EtrisOptions,
        strides: Three,
        transformer: bool,
    ) -> None:
        super().__init__()
        inner = config.bridge_channels
        heads = config.bridge_heads or (8 if transformer else 4)
        down, up = (_normed_narrow, deconvolution) if transformer else (_narrow, _widen)
        attention = MultiplicativeAttention if transformer else ReadingBlock
        stages = list(zip((down, down, up), (up, up, down), inputs, strides, strict=True))
        zoom = {
            "zoom_in": nn.ModuleList(enter(c, inner, by) for enter, _, c, by in stages),
            "zoom_out": nn.ModuleList(leave(inner, c, by) for _, leave, c, by in stages),
        }
        linear = {
            "linear1": nn.ModuleList(nn.Linear(words, inner) for _ in inputs),
            "linear2": nn.ModuleList(nn.Linear(inner, words) for _ in inputs),
        }
        fusion = {
            name: nn.ModuleList(attention(inner, heads) for _ in inputs)
            for name in ("fusion_v", "fusion_t")
        }
        norms = {
            name: nn.ModuleList(nn.LayerNorm(inner) for _ in inputs[1:])
            for name in ("ln_v", "ln_t")
        }
        parts = {**zoom, **linear, **fusion} if transformer else {**fusion, **zoom, **linear}
        for name, module in {**parts, **norms}.items():  # in the official order
            self.add_module(name, module)
        self.apply(_initialize)

    def forward(
        self,
        stage: int,
        features: Tensor,
        words: Tensor,
        shared: tuple[Tensor, Tensor] | None,
    ) -> tuple[Tensor, Tensor, tuple[Tensor, Tensor]]:
        """Updated map (T, C, h, w) and words (T, L, D), and the inputs of the attention.

        `shared` are those inputs of the stage before: cells (T, N, K) and words (T, L, K).
        """
        narrow = self.zoom_in[stage](features)  # (T, K, h', w')
        cells, texts = to_cells(narrow), self.linear1[stage](words)
        if shared is not None:
            cells = self.ln_v[stage - 1](cells + shared[0])
            texts = self.ln_t[stage - 1](texts + shared[1])
        read = self.fusion_v[stage](cells, texts).transpose(1, 2).reshape(narrow.shape)
        text_read = self.fusion_t[stage](texts, cells)
        features = features + self.zoom_out[stage](read)
        return features, words + self.linear2[stage](text_read), (cells, texts)


class ReadingBlock(nn.Module):
    """Attention to itself and to a memory, and two linear layers, each followed by a norm."""

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.self_attn = nn.MultiheadAttention(channels, heads, DROPOUT, batch_first=True)
        self.multihead_attn = nn.MultiheadAttention(channels, heads, DROPOUT, batch_first=True)
        self.linear1 = nn.Linear(channels, HIDDEN)
        self.dropout = nn.Dropout(DROPOUT)
        self.linear2 = nn.Linear(HIDDEN, channels)
        self.norm1 = nn.LayerNorm(channels)
        self.norm2 = nn.LayerNorm(channels)
        self.norm3 = nn.LayerNorm(channels)
        self.dropout1 = nn.Dropout(DROPOUT)
        self.dropout2 = nn.Dropout(DROPOUT)
        self.dropout3 = nn.Dropout(DROPOUT)

    def forward(self, cells: Tensor, memory: Tensor) -> Tensor:
        """Cells (T, N, K) and memory (T, L, K) to (T, N, K)."""
        read = self.self_attn(cells, cells, cells, need_weights=False)[0]
        cells = self.norm1(cells + self.dropout1(read))
        read = self.multihead_attn(cells, memory, memory, need_weights=False)[0]
        cells = self.norm2(cells + self.dropout2(read))
        changed = self.linear2(self.dropout(F.relu(self.linear1(cells))))
        return self.norm3(cells + self.dropout3(changed))


def _normed_narrow(inputs: int, outputs: int, stride: int) -> nn.Module:
    return convolution(inputs, outputs, stride, stride)


def _narrow(inputs: int, outputs: int, stride: int) -> nn.Module:
    return nn.Conv2d(inputs, outputs, stride, stride, bias=False)


def _widen(inputs: int, outputs: int, stride: int) -> nn.Module:
    return nn.ConvTranspose2d(inputs, outputs, stride, stride, bias=False)


def _initialize(module: nn.Module) -> None:
    # Official bridger.py, initialize_parameters.
    if isinstance(module, nn.Linear):
        nn.init.normal_(module.weight, std=0.02)
        nn.init.zeros_(module.bias)
    elif isinstance(module, (nn.Conv2d, nn.ConvTranspose2d)):
        nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
