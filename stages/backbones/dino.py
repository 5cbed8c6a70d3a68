"""DINOv2 with registers (Oquab et al., 2023; Darcet et al., 2024) as a row of blocks over tokens.

The blocks are timm's; parameters have the names of Meta's files. Positions are resized as official
DETRIS does (model/dinov2, interpolate_pos_encoding): bicubic, by a factor of the number of cells
plus 0.1, without antialiasing.

Shapes: B images, P prefix tokens (class, registers), N patches, C channels.
"""

from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from timm.layers import PatchEmbed
from timm.models.vision_transformer import Block
from torch import Tensor, nn

from stages.config.encoders import DinoSource
from stages.storage.matching import load_exactly
from stages.storage.weights import read_published

REGISTERS = 4
OFFSET = 0.1  # of the resizing factor


@dataclass(frozen=True)
class Size:
    """A published architecture, by what differs."""

    channels: int
    depth: int
    heads: int
    patch: int = 14
    side: int = 37  # patches in a row of the images that the positions are made for


SIZES = {
    "vit_base_patch14_reg4_dinov2": Size(768, 12, 12),
    "vit_large_patch14_reg4_dinov2": Size(1024, 24, 16),
    "tiny": Size(96, 6, 3, patch=8, side=12),
    "mini": Size(64, 4, 2, patch=8, side=12),
}


class Dino(nn.Module):
    """Embedding of an image as tokens, blocks to send them through, and the last norm."""

    def __init__(self, size: Size) -> None:
        super().__init__()
        self.channels, self.patch, self.prefix = size.channels, size.patch, 1 + REGISTERS
        self.cls_token = nn.Parameter(torch.zeros(1, 1, size.channels))
        self.pos_embed = nn.Parameter(torch.zeros(1, 1 + size.side**2, size.channels))
        self.register_tokens = nn.Parameter(torch.zeros(1, REGISTERS, size.channels))
        self.mask_token = nn.Parameter(torch.zeros(1, size.channels))  # of pre-training, unused
        self.patch_embed = PatchEmbed(None, size.patch, embed_dim=size.channels)
        norm: Any = partial(nn.LayerNorm, eps=1e-6)
        self.blocks = nn.ModuleList(
            Block(size.channels, size.heads, qkv_bias=True, init_values=1.0, norm_layer=norm)
            for _ in range(size.depth)
        )
        self.norm = norm(size.channels)
        for tokens in (self.pos_embed, self.cls_token, self.register_tokens):
            nn.init.trunc_normal_(tokens, std=0.02)

    def embed(self, images: Tensor) -> Tensor:
        """Tokens (B, P + N, C) that the blocks start from."""
        height, width = (side // self.patch for side in images.shape[2:])
        patches = self.patch_embed(images) + self._positions(height, width)
        first = self.cls_token + self.pos_embed[:, :1]
        prefix = torch.cat([first, self.register_tokens], dim=1)
        return torch.cat([prefix.expand(len(images), -1, -1).to(patches.dtype), patches], dim=1)

    def _positions(self, height: int, width: int) -> Tensor:
        # (1, height * width, C)
        positions = self.pos_embed[:, 1:]
        side = round(positions.shape[1] ** 0.5)
        if (height, width) == (side, side):
            return positions
        grid = positions.transpose(1, 2).unflatten(2, (side, side))
        factors = [(count + OFFSET) / side for count in (height, width)]
        grid = F.interpolate(grid, scale_factor=factors, mode="bicubic")
        return grid.flatten(2).transpose(1, 2)


def load_dino(source: DinoSource) -> Dino:
    """The DINOv2 of a configuration. Raises InputError for weights of another one."""
    dino = Dino(SIZES[source.model])
    if source.weights is not None:
        load_exactly(dino, read_published(source.weights), source.weights)
    return dino
