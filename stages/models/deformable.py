"""Deformable attention over feature maps of several scales, and the pixel decoder made of it.

Follows Deformable DETR (Zhu et al., ICLR 2021) and the pixel decoder of Mask2Former (Cheng et al.,
CVPR 2022) as in official GRES/ReLA (gres_model/modeling/pixel_decoder/). Attribute names are
those of its checkpoints. Departures: sampling is `grid_sample`, not a compiled extension;
images fill the whole map, so no cell is masked; there is no dropout (0 as published).

Shapes: B images, C channels, maps of h x w cells, coarsest first; S cells of all maps together,
M heads, K maps, P points a head and map.
"""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from stages.models.layers import sine_positions

POINTS = 4  # that a head samples in a map
MAPS = 3  # that attend to each other
GROUPS = 32  # of the group norms
IMAGES_AT_ONCE = 8  # whose sampled features are in memory together: 0.2 GB an image of 480 pixels

Sizes = list[tuple[int, int]]


def cell_positions(height: int, width: int, channels: int, device: torch.device) -> Tensor:
    """Sines and cosines (height * width, channels) of the places of cells, from 0 to 2 pi.

    The first half of the channels is for the row, the second half for the column.
    """
    half = channels // 2
    rows = sine_positions(_spread(height, device), half)[:, None].expand(height, width, half)
    columns = sine_positions(_spread(width, device), half).expand(height, width, half)
    return torch.cat([rows, columns], dim=2).flatten(0, 1)


def _spread(count: int, device: torch.device) -> Tensor:
    places = torch.arange(1, count + 1, dtype=torch.float32, device=device)
    return places / (places[-1:] + 1e-6) * (2 * math.pi)


class DeformableAttention(nn.Module):
    """Each head of each cell reads a few points of each map, near its own place."""

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.sampling_offsets = nn.Linear(channels, heads * MAPS * POINTS * 2)
        self.attention_weights = nn.Linear(channels, heads * MAPS * POINTS)
        self.value_proj = nn.Linear(channels, channels)
        self.output_proj = nn.Linear(channels, channels)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Each head looks in its own direction, its points further and further out."""
        angles = torch.arange(self.heads, dtype=torch.float32) * (2 * math.pi / self.heads)
        directions = torch.stack([angles.cos(), angles.sin()], dim=1)  # (M, 2)
        directions = directions / directions.abs().amax(dim=1, keepdim=True)
        steps = torch.arange(1, POINTS + 1)[:, None]  # (P, 1)
        offsets = directions[:, None, None] * steps  # (M, 1, P, 2)
        nn.init.zeros_(self.sampling_offsets.weight)
        with torch.no_grad():
            self.sampling_offsets.bias.copy_(offsets.expand(-1, MAPS, -1, -1).flatten())
        nn.init.zeros_(self.attention_weights.weight)
        nn.init.zeros_(self.attention_weights.bias)
        for projection in (self.value_proj, self.output_proj):
            nn.init.xavier_uniform_(projection.weight)
            nn.init.zeros_(projection.bias)

    def forward(
        self, query: Tensor, cells: Tensor, places: Tensor, extent: Tensor, sizes: Sizes
    ) -> Tensor:
        """The features (B, S, C) that queries (B, S, C) read from cells (B, S, C).

        `places` (S, 2) are the x and y of each cell in its map, from 0 to 1, `extent` (K, 2) the
        widths and heights of the maps. What is sampled of many images is not kept for the backward
        pass, but sampled again: twelve times the cells of all maps do not fit into a GPU.
        """
        batch, count, channels = query.shape
        split = (batch, count, self.heads, MAPS, POINTS)
        offsets = self.sampling_offsets(query).view(*split, 2)
        weights = self.attention_weights(query).view(batch, count, self.heads, -1).softmax(dim=3)
        points = places[:, None, None, None] + offsets / extent[:, None]  # (B, S, M, K, P, 2)
        values = self.value_proj(cells).view(batch, count, self.heads, -1)
        inputs = (values, 2 * points - 1, weights)
        if torch.compiler.is_exporting() or batch <= IMAGES_AT_ONCE:
            read = _read(*inputs, sizes)
        else:
            starts = range(0, batch, IMAGES_AT_ONCE)
            parts = (tuple(x[at : at + IMAGES_AT_ONCE] for x in inputs) for at in starts)
            read = torch.cat([_read_again(v, p, w, sizes) for v, p, w in parts])
        return self.output_proj(read.view(batch, channels, count).transpose(1, 2))


def _read_again(values: Tensor, points: Tensor, weights: Tensor, sizes: Sizes) -> Tensor:
    """The same as `_read`, in a graph that keeps its inputs only."""
    result: Tensor = checkpoint(
        _read, values, points, weights, sizes, use_reentrant=False, preserve_rng_state=False
    )
    return result


def _read(values: Tensor, points: Tensor, weights: Tensor, sizes: Sizes) -> Tensor:
    """Weighted sums (B * M, C / M, S) of values at points; weights are (B, S, M, K * P)."""
    sampled = _sample(values, points, sizes)  # (B * M, C / M, S, K * P)
    weights = weights.transpose(1, 2).flatten(0, 1)[:, None]  # (B * M, 1, S, K * P)
    return (sampled * weights).sum(dim=3)


def _sample(values: Tensor, points: Tensor, sizes: Sizes) -> Tensor:
    """Values (B, S, M, C / M) at points (B, S, M, K, P, 2) in -1..1: (B * M, C / M, S, K * P)."""
    batch, _, heads, width = values.shape
    sampled = []
    maps = values.split([height * width for height, width in sizes], dim=1)
    for number, (cells, size) in enumerate(zip(maps, sizes, strict=True)):
        image = cells.permute(0, 2, 3, 1).reshape(batch * heads, width, *size)
        grid = points[:, :, :, number].transpose(1, 2).flatten(0, 1)  # (B * M, S, P, 2)
        sampled.append(F.grid_sample(image, grid, padding_mode="zeros", align_corners=False))
    return torch.cat(sampled, dim=3)


class DeformableLayer(nn.Module):
    """Deformable attention and a feed-forward part, each with a shortcut and a norm after it."""

    def __init__(self, channels: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.self_attn = DeformableAttention(channels, heads)
        self.norm1 = nn.LayerNorm(channels)
        self.linear1 = nn.Linear(channels, hidden)
        self.linear2 = nn.Linear(hidden, channels)
        self.norm2 = nn.LayerNorm(channels)

    def forward(
        self, cells: Tensor, positions: Tensor, places: Tensor, extent: Tensor, sizes: Sizes
    ) -> Tensor:
        """Cells (B, S, C) with positions (S, C), places (S, 2) and extent (K, 2): (B, S, C)."""
        read = self.self_attn(cells + positions, cells, places, extent, sizes)
        cells = self.norm1(cells + read)
        return self.norm2(cells + self.linear2(self.linear1(cells).relu()))


class _Layers(nn.Module):
    """Official name of the stack: transformer.encoder.layers."""

    def __init__(self, channels: int, heads: int, hidden: int, count: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(DeformableLayer(channels, heads, hidden) for _ in range(count))


class DeformableEncoder(nn.Module):
    """Maps of several scales; each cell attends to all of them."""

    def __init__(self, channels: int, heads: int, hidden: int, layers: int) -> None:
        super().__init__()
        self.level_embed = nn.Parameter(torch.randn(MAPS, channels))
        self.encoder = _Layers(channels, heads, hidden, layers)
        for parameter in self.encoder.parameters():
            if parameter.dim() > 1:
                nn.init.xavier_uniform_(parameter)
        for module in self.encoder.modules():
            if isinstance(module, DeformableAttention):
                module.reset_parameters()

    def forward(self, maps: list[Tensor]) -> list[Tensor]:
        """Maps (B, C, h, w), coarsest first, to maps of the same shapes."""
        sizes = [(features.shape[2], features.shape[3]) for features in maps]
        channels, device = maps[0].shape[1], maps[0].device
        positions = torch.cat(
            [
                cell_positions(*size, channels, device) + level
                for size, level in zip(sizes, self.level_embed, strict=True)
            ]
        )  # (S, C)
        places = torch.cat([_centers(*size, device) for size in sizes])  # (S, 2)
        sides = [
            maps[0].new_full((1,), side) for height, width in sizes for side in (width, height)
        ]
        extent = torch.cat(sides).view(-1, 2)  # (K, 2), without an upload
        cells = torch.cat(
            [features.flatten(2).transpose(1, 2) for features in maps], dim=1
        )  # (B, S, C)
        for layer in self.encoder.layers:
            cells = layer(cells, positions, places, extent, sizes)
        parts = cells.split([height * width for height, width in sizes], dim=1)
        return [
            level.transpose(1, 2).unflatten(2, size)
            for level, size in zip(parts, sizes, strict=True)
        ]


def _centers(height: int, width: int, device: torch.device) -> Tensor:
    """x and y (height * width, 2) of the cells' centers, from 0 to 1."""
    rows = torch.linspace(0.5, height - 0.5, height, device=device) / height
    columns = torch.linspace(0.5, width - 0.5, width, device=device) / width
    y, x = torch.meshgrid(rows, columns, indexing="ij")
    return torch.stack([x, y], dim=2).flatten(0, 1)


class PixelDecoder(nn.Module):
    """Image features of four strides to three maps for attention and one fine map for masks."""

    def __init__(
        self, inputs: Sequence[int], channels: int, heads: int, hidden: int, layers: int
    ) -> None:
        """`inputs` are the channels of the image features, finest first."""
        super().__init__()
        self.input_proj = nn.ModuleList(_projection(width, channels) for width in inputs[:0:-1])
        self.transformer = DeformableEncoder(channels, heads, hidden, layers)
        self.mask_features = _pointwise(channels, channels)
        nn.init.kaiming_uniform_(self.mask_features.weight, a=1)
        self.adapter_1 = NormedConvolution(inputs[0], channels, kernel_size=1)
        self.layer_1 = NormedConvolution(channels, channels, kernel_size=3, padding=1)

    def forward(self, features: Sequence[Tensor]) -> tuple[Tensor, list[Tensor]]:
        """Mask features (B, C, h, w) of the finest map's size, and the maps, coarsest first.

        Computed in float32 at any precision: places are differences of coordinates.
        """
        with torch.autocast(features[0].device.type, enabled=False):
            finest, *coarser = [feature_map.float() for feature_map in features]
            maps = self.transformer(
                [
                    project(feature_map)
                    for project, feature_map in zip(self.input_proj, reversed(coarser), strict=True)
                ]
            )
            lateral = self.adapter_1(finest)
            context = F.interpolate(
                maps[-1], lateral.shape[2:], mode="bilinear", align_corners=False
            )
            fine = self.layer_1(lateral + context).relu()
            return self.mask_features(fine), maps


class NormedConvolution(nn.Conv2d):
    """A convolution without bias, and a group norm."""

    def __init__(self, inputs: int, outputs: int, kernel_size: int, padding: int = 0) -> None:
        super().__init__(inputs, outputs, kernel_size, padding=padding, bias=False)
        nn.init.kaiming_uniform_(self.weight, a=1)
        self.norm = nn.GroupNorm(GROUPS, outputs)

    def forward(self, features: Tensor) -> Tensor:
        return self.norm(super().forward(features))


def _projection(inputs: int, channels: int) -> nn.Sequential:
    convolution = _pointwise(inputs, channels)
    nn.init.xavier_uniform_(convolution.weight)
    return nn.Sequential(convolution, nn.GroupNorm(GROUPS, channels))


def _pointwise(inputs: int, outputs: int) -> nn.Conv2d:
    convolution = nn.Conv2d(inputs, outputs, kernel_size=1)
    assert convolution.bias is not None
    nn.init.zeros_(convolution.bias)
    return convolution
