"""Blocks that CRIS, ETRIS and DETRIS share, and their common base class.

The three differ in how they fuse image and expression (`fuse`). Then all decode cells that attend
to words, and filter them with a kernel that is computed from the expression. Attribute names are
those of the official checkpoints (model/layers.py and model/segmenter.py of the three). Departures:
an image's features serve all its expressions; attention to a single key, whose weight is 1, is not
computed.

Shapes: T expressions of L words, C channels, D text width, E embedding, h x w cells, N = h * w,
S x S pixels.
"""

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stages.config.section import Training
from stages.config.segmentors import QueryOptions
from stages.models import losses
from stages.models.groups import backbone_and_head


class QuerySegmentor(nn.Module):
    """A segmentor of the CRIS family; subclasses fuse image and expression."""

    resize_mode = "letterbox"
    threshold = 0.35  # of the mask's probability (official engine/engine.py)
    background_value = -threshold  # of `predict`, where the probability is zero
    config: QueryOptions
    decoder: "Decoder"
    proj: "Projector"

    def fuse(self, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """Queries (T, C, h, w), words (T, L, D) and expressions (T, E)."""
        raise NotImplementedError

    def logits(self, batch: dict[str, Tensor]) -> Tensor:
        """Mask logits (T, 4h, 4w) of images (I, 3, S, S), image_index (T,) and tokens (T, L)."""
        queries, words, expressions = self.fuse(batch)
        queries = self.decoder(queries, words, batch["tokens"] == 0)
        return self.proj(queries, expressions)

    def forward(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """The loss against masks (T, S, S), which may be soft, at the size of the logits."""
        return self.losses(self.logits(batch), batch)

    def learn(self, batch: dict[str, Tensor]) -> tuple[dict[str, Tensor], Tensor]:
        """The losses, and the mask logits (T, S, S) that they are of."""
        logits = self.logits(batch)
        full = resize(logits.float()[:, None], batch["images"].shape[2:])[:, 0]
        return self.losses(logits, batch), full

    def losses(self, logits: Tensor, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """The losses of `forward`, of its logits."""
        masks = F.interpolate(batch["masks"][:, None], logits.shape[1:], mode="nearest")[:, 0]
        masks = masks.to(logits.dtype)
        loss = losses.mask_loss(logits, masks, batch.get("weights"))
        if not self.config.dice:
            return {"loss": loss}
        dice = losses.dice_loss(logits, masks, batch.get("weights"))
        return {"loss": loss + self.config.dice * dice, "mask": loss, "dice": dice}

    def predict(self, batch: dict[str, Tensor]) -> Tensor:
        """Probability minus the threshold (T, S, S): positive in the mask."""
        return probabilities(self.logits(batch), batch["images"].shape[2:]) - self.threshold

    def kept(self) -> nn.Module:
        """The trained module: all of it."""
        return self

    def is_backbone(self, name: str) -> bool:
        """Whether a parameter learns at the backbone's rate."""
        raise NotImplementedError

    def parameter_groups(self, config: Training) -> list[dict[str, Any]]:
        """The parameters of the backbone, and the others."""
        return backbone_and_head(self, self.is_backbone, config)


def resize(features: Tensor, size: tuple[int, ...]) -> Tensor:
    """Features (B, C, h, w) at another size, bilinear."""
    return F.interpolate(features, size, mode="bilinear", align_corners=False)


def of_expressions(features: Tensor, image_index: Tensor) -> Tensor:
    """The features (T, C, h, w) of each expression's image, of those (I, C, h, w) of the images.

    They are copied cell by cell, so that channels stay the last in memory, in the gradient, too.
    """
    return features.permute(0, 2, 3, 1)[image_index].permute(0, 3, 1, 2)


def probabilities(logits: Tensor, size: tuple[int, ...]) -> Tensor:
    """Probabilities (T, *size) of logits (T, h, w): resized after the sigmoid, corners kept."""
    small = logits.float().sigmoid()[:, None]
    return F.interpolate(small, size, mode="bicubic", align_corners=True)[:, 0]


def convolution(inputs: int, outputs: int, kernel: int = 1, stride: int = 1) -> nn.Sequential:
    """Convolution, batch norm and relu; strided ones see each cell once."""
    padding = kernel // 2 if stride == 1 else 0
    layer = nn.Conv2d(inputs, outputs, kernel, stride, padding, bias=False)
    return nn.Sequential(layer, nn.BatchNorm2d(outputs), nn.ReLU())


def deconvolution(inputs: int, outputs: int, stride: int) -> nn.Sequential:
    """Transposed convolution that enlarges `stride` times, batch norm and relu."""
    layer = nn.ConvTranspose2d(inputs, outputs, stride, stride, bias=False)
    return nn.Sequential(layer, nn.BatchNorm2d(outputs), nn.ReLU())


class CoordinateConvolution(nn.Module):
    """A convolution with two more channels, x and y of each cell from -1 to 1."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = convolution(channels + 2, channels, kernel=3)

    def forward(self, features: Tensor) -> Tensor:
        batch, _, height, width = features.shape
        y = torch.linspace(-1, 1, height, device=features.device)[:, None].expand(height, width)
        x = torch.linspace(-1, 1, width, device=features.device).expand(height, width)
        places = torch.stack([x, y]).to(features.dtype).expand(batch, 2, height, width)
        return self.conv1(torch.cat([features, places], dim=1))


def placed(channels: int) -> nn.Sequential:
    """The two convolutions that end every neck."""
    return nn.Sequential(CoordinateConvolution(channels), convolution(channels, channels, kernel=3))


class MultiplicativeAttention(nn.Module):
    """Cells are scaled by what they read of a memory (official InteractorT, CrossAttn)."""

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.multihead_attn = nn.MultiheadAttention(channels, heads, batch_first=True)

    def forward(self, cells: Tensor, memory: Tensor) -> Tensor:
        """Cells (T, N, C) and memory (T, L, C) to (T, N, C)."""
        attention = self.multihead_attn
        if memory.shape[1] > 1:
            return cells * attention(cells, memory, memory, need_weights=False)[0]
        weight, bias = attention.in_proj_weight, attention.in_proj_bias
        channels = 2 * attention.embed_dim  # after those of query and key, which change nothing
        return cells * attention.out_proj(F.linear(memory, weight[channels:], bias[channels:]))


class GatedNeck(nn.Module):
    """Three feature maps, each scaled by the expression, joined (official HA, Neck).

    `strides` are the ratios in size to the joined map: the first two maps are larger, the third is
    smaller. With `residual`, the last convolutions add to their input (DETRIS).
    """

    def __init__(
        self,
        inputs: tuple[int, int, int],
        embedding: int,
        config: QueryOptions,
        strides: tuple[int, int, int],
        residual: bool,
    ) -> None:
        super().__init__()
        channels, heads = config.channels, config.heads
        self.residual = residual
        self.fusion3 = MultiplicativeAttention(channels, heads)
        self.fusion4 = MultiplicativeAttention(channels, heads)
        self.fusion5 = MultiplicativeAttention(channels, heads)
        self.txt_proj = nn.Linear(embedding, channels)
        self.f3_proj = convolution(inputs[0], channels, strides[0], strides[0])
        self.f4_proj = convolution(inputs[1], channels, strides[1], strides[1])
        self.f5_proj = deconvolution(inputs[2], channels, strides[2])
        self.aggr = convolution(3 * channels, channels)
        self.coordconv = placed(channels)

    def forward(self, maps: list[Tensor], expressions: Tensor) -> Tensor:
        """Three maps (T, C_k, h_k, w_k) and expressions (T, E) to queries (T, C, h, w)."""
        memory = self.txt_proj(expressions)[:, None]  # (T, 1, C)
        parts = []
        for features, projection, fusion in (
            (maps[0], self.f3_proj, self.fusion3),
            (maps[1], self.f4_proj, self.fusion4),
            (maps[2], self.f5_proj, self.fusion5),
        ):
            projected = projection(features)
            cells = fusion(projected.flatten(2).transpose(1, 2), memory)  # (T, N, C)
            parts.append(cells.transpose(1, 2).reshape(projected.shape))
        joined = self.aggr(torch.cat(parts, dim=1))
        return self.coordconv(joined) + joined if self.residual else self.coordconv(joined)


class Decoder(nn.Module):
    """Cells attend to each other and to the words (official TransformerDecoder, GA, Decoder)."""

    def __init__(self, config: QueryOptions, words: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(DecoderLayer(config, words) for _ in range(config.layers))
        self.norm = nn.LayerNorm(config.channels)

    def forward(self, queries: Tensor, words: Tensor, padding: Tensor) -> Tensor:
        """Queries (T, C, h, w), words (T, L, D), padding (T, L) true where there is no word."""
        _, channels, height, width = queries.shape
        length, text_width = words.shape[1:]
        places = grid_positions(channels, height, width, queries.device).to(queries)  # (N, C)
        order = torch.arange(length, device=words.device)
        keys = words + sine_positions(order, text_width).to(words)
        cells = queries.flatten(2).transpose(1, 2)  # (T, N, C)
        for layer in self.layers:
            cells = layer(cells, places, keys, words, padding)
        return self.norm(cells).transpose(1, 2).reshape(queries.shape)


class DecoderLayer(nn.Module):
    """Norms before and after each attention, and inside the two-layer network."""

    def __init__(self, config: QueryOptions, words: int) -> None:
        super().__init__()
        channels, heads, dropout = config.channels, config.heads, config.dropout
        self.self_attn_norm = nn.LayerNorm(channels)
        self.cross_attn_norm = nn.LayerNorm(channels)
        self.self_attn = nn.MultiheadAttention(channels, heads, dropout, batch_first=True)
        self.multihead_attn = nn.MultiheadAttention(
            channels, heads, dropout, kdim=words, vdim=words, batch_first=True
        )
        self.ffn = nn.Sequential(
            nn.Linear(channels, config.hidden),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.LayerNorm(config.hidden),
            nn.Linear(config.hidden, channels),
        )
        self.norm1 = nn.LayerNorm(channels)
        self.norm2 = nn.LayerNorm(channels)
        self.norm3 = nn.LayerNorm(channels)
        self.dropout1 = nn.Dropout(dropout)
        self.dropout2 = nn.Dropout(dropout)
        self.dropout3 = nn.Dropout(dropout)

    def forward(
        self, cells: Tensor, places: Tensor, keys: Tensor, words: Tensor, padding: Tensor
    ) -> Tensor:
        """Cells (T, N, C) at places (N, C); keys are the words (T, L, D) with their positions."""
        normed = self.norm1(cells)
        query = normed + places
        read = self.self_attn(query, query, normed, need_weights=False)[0]
        cells = cells + self.dropout1(self.self_attn_norm(read))
        query = self.norm2(cells) + places
        read = self.multihead_attn(
            query, keys, words, key_padding_mask=padding, need_weights=False
        )[0]
        cells = cells + self.dropout2(self.cross_attn_norm(read))
        return cells + self.dropout3(self.ffn(self.norm3(cells)))


def sine_positions(positions: Tensor, channels: int) -> Tensor:
    """Sines and cosines in turn of positions (n,), of falling frequency: (n, channels)."""
    numbers = torch.arange(0, channels, 2, device=positions.device)
    rates = torch.exp(numbers.float() * -(math.log(10000.0) / channels))
    angles = positions.float()[:, None] * rates  # (n, channels / 2)
    return torch.stack([angles.sin(), angles.cos()], dim=2).flatten(1)


def grid_positions(channels: int, height: int, width: int, device: torch.device) -> Tensor:
    """Positions (N, channels) of the cells of a grid: one half of the channels x, the other y.

    Made on the device: an upload would make the processor wait for the GPU in each step.
    """
    half = channels // 2
    columns, rows = torch.arange(width, device=device), torch.arange(height, device=device)
    x = sine_positions(columns, half).expand(height, width, half)
    y = sine_positions(rows, half)[:, None].expand(height, width, half)
    return torch.cat([x, y], dim=2).flatten(0, 1)


class Projector(nn.Module):
    """Queries, enlarged four times and filtered with a kernel of the expression."""

    kernel = 3

    def __init__(self, embedding: int, channels: int) -> None:
        super().__init__()
        half = channels // 2
        self.vis = nn.Sequential(
            nn.Upsample(scale_factor=2, mode="bilinear"),
            convolution(channels, channels, kernel=3),
            nn.Upsample(scale_factor=2, mode="bilinear"),
            convolution(channels, half, kernel=3),
            nn.Conv2d(half, half, kernel_size=1),
        )
        self.txt = nn.Linear(embedding, half * self.kernel**2 + 1)

    def forward(self, queries: Tensor, expressions: Tensor) -> Tensor:
        """Queries (T, C, h, w) and expressions (T, E) to logits (T, 4h, 4w)."""
        features = self.vis(queries)  # (T, C / 2, 4h, 4w)
        count, channels = features.shape[:2]
        filters = self.txt(expressions)
        weight = filters[:, :-1].reshape(count, channels, self.kernel, self.kernel)
        if torch.compiler.is_exporting():
            return filter_each(features, weight) + filters[:, -1, None, None]
        joined = features.flatten(0, 1)[None]  # (1, T * C / 2, 4h, 4w)
        return F.conv2d(joined, weight, filters[:, -1], padding=self.kernel // 2, groups=count)[0]


def filter_each(features: Tensor, kernels: Tensor) -> Tensor:
    """Features (T, C, h, w), each filtered with its own kernel (T, C, K, K): (T, h, w).

    Like a convolution in T groups, for graphs of any T (ONNX fixes the number of groups).
    """
    height, width = features.shape[2:]
    size = kernels.shape[-1]
    padded = F.pad(features, [size // 2] * 4)
    shifts = [
        (padded[..., y : y + height, x : x + width] * kernels[..., y, x, None, None]).sum(dim=1)
        for y in range(size)
        for x in range(size)
    ]
    return torch.stack(shifts).sum(dim=0)
