"""CLIP's image encoders as dense features: a vector for every cell instead of one an image.

The residual networks' pooling attention is asked at every cell instead of for the mean; a
projection of its input is added (official CRIS and ETRIS, model/clip.py, AttentionPool2d, whose
`connect` is not of CLIP and starts at random). The vision transformers' positions are resized to
the training image once, as a parameter (adapt_position_encoding there).

Shapes: B images, C channels, E embedding, h x w cells, N = h * w.
"""

from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stages.backbones.clip import Clip, resize_positions
from stages.backbones.clip_layers import AttentionPool, VisionTransformer
from stages.config.section import require_multiple
from stages.runtime.errors import InputError


class DensePool(nn.Module):
    """The pooling attention of a residual CLIP with every cell as a query."""

    def __init__(self, pool: AttentionPool) -> None:
        super().__init__()
        self.positional_embedding = pool.positional_embedding
        self.k_proj = pool.k_proj
        self.q_proj = pool.q_proj
        self.v_proj = pool.v_proj
        self.c_proj = pool.c_proj
        self.num_heads: int = pool.num_heads
        inputs, outputs = pool.c_proj.in_features, pool.c_proj.out_features
        self.connect = nn.Sequential(
            nn.Conv2d(inputs, outputs, kernel_size=1, bias=False), nn.BatchNorm2d(outputs)
        )

    def forward(self, features: Tensor) -> Tensor:
        """(B, C, h, w) to (B, E, h, w)."""
        batch, _, height, width = features.shape
        positions = resize_positions(self.positional_embedding, height, width, "bicubic")
        cells = features.flatten(2).transpose(1, 2) + positions[1:]  # (B, N, C)
        query, key, value = (
            layer(cells).unflatten(2, (self.num_heads, -1)).transpose(1, 2)  # (B, heads, N, c)
            for layer in (self.q_proj, self.k_proj, self.v_proj)
        )
        attended = F.scaled_dot_product_attention(query, key, value)
        pooled = self.c_proj(attended.transpose(1, 2).flatten(2))  # (B, N, E)
        pooled = pooled.transpose(1, 2).reshape(batch, -1, height, width)
        return F.relu(pooled + self.connect(features))


def make_dense(clip: Clip, image_size: int) -> None:
    """Give a CLIP dense image features, for images of `image_size` where it is a transformer."""
    visual = clip.visual
    if not isinstance(visual, VisionTransformer):
        visual.attnpool = DensePool(visual.attnpool)
        require_multiple("image_size", image_size, 32, "residual CLIP")
        return
    patch = visual.conv1.kernel_size[0]
    require_multiple("image_size", image_size, patch, "CLIP's patches")
    side = image_size // patch
    with torch.no_grad():
        resized = resize_positions(visual.positional_embedding, side, side, "bicubic")
    visual.positional_embedding = nn.Parameter(resized.clone())


def embed_patches(visual: VisionTransformer, images: Tensor) -> Tensor:
    """Tokens (B, 1 + N, C), the class first, that a vision transformer's blocks start from."""
    tokens = visual.embed(images)
    if tokens.shape[1] != len(visual.positional_embedding):
        raise InputError(
            f"images: {tokens.shape[1] - 1} patches; needed {len(visual.positional_embedding) - 1},"
            " those of segmentor.image_size"
        )
    return visual.ln_pre(tokens + visual.positional_embedding)


def to_map(cells: Tensor) -> Tensor:
    """Cells (B, N, C) of a square image as a map (B, C, h, w)."""
    side = round(cells.shape[1] ** 0.5)
    return cells.transpose(1, 2).reshape(cells.shape[0], -1, side, side)


def to_cells(features: Tensor) -> Tensor:
    """A map (B, C, h, w) as cells (B, N, C)."""
    return features.flatten(2).transpose(1, 2)


def thirds(blocks: Sequence[nn.Module]) -> list[Sequence[nn.Module]]:
    """The blocks of a transformer in three runs, of the same length where they can be."""
    ends = [-(-len(blocks) * third // 3) for third in range(4)]
    return [blocks[start:end] for start, end in pairwise(ends)]


class ImageSteps:
    """An image encoder in three steps, between which its feature map can be read and replaced."""

    def __init__(self, clip: Clip) -> None:
        self.clip = clip

    def start(self, images: Tensor) -> Tensor:
        """What the first step takes, of images (B, 3, H, W)."""
        raise NotImplementedError

    def advance(self, step: int, state: Tensor) -> Tensor:
        """What step 0, 1 or 2 makes of what the one before gave."""
        raise NotImplementedError

    def read(self, state: Tensor) -> Tensor:
        """The feature map (B, C, h, w) after a step."""
        raise NotImplementedError

    def replace(self, state: Tensor, features: Tensor) -> Tensor:
        """What the next step takes, with another feature map."""
        raise NotImplementedError

    def finish(self, state: Tensor) -> Tensor:
        """The feature map (B, E, h, w) that is compared with expressions."""
        raise NotImplementedError


class ResidualSteps(ImageSteps):
    """The last three layers of a residual network, whose state is the feature map."""

    def start(self, images: Tensor) -> Tensor:
        return self.clip.residual.layer1(self.clip.residual.stem(images))

    def advance(self, step: int, state: Tensor) -> Tensor:
        return getattr(self.clip.residual, f"layer{step + 2}")(state)

    def read(self, state: Tensor) -> Tensor:
        return state

    def replace(self, state: Tensor, features: Tensor) -> Tensor:
        return features

    def finish(self, state: Tensor) -> Tensor:
        return self.clip.residual.attnpool(state)


class TransformerSteps(ImageSteps):
    """Thirds of a vision transformer's blocks, whose state are tokens (B, 1 + N, C)."""

    def start(self, images: Tensor) -> Tensor:
        return embed_patches(self.clip.visual, images)

    def advance(self, step: int, state: Tensor) -> Tensor:
        for block in thirds(self.clip.visual.transformer.resblocks)[step]:
            state = block(state)
        return state

    def read(self, state: Tensor) -> Tensor:
        return to_map(state[:, 1:])

    def replace(self, state: Tensor, features: Tensor) -> Tensor:
        return torch.cat([state[:, :1], to_cells(features)], dim=1)

    def finish(self, state: Tensor) -> Tensor:
        visual = self.clip.visual
        return to_map(visual.ln_post(state[:, 1:]) @ visual.proj)


def image_steps(clip: Clip) -> ImageSteps:
    """The steps of a CLIP made dense."""
    residual = not isinstance(clip.visual, VisionTransformer)
    return ResidualSteps(clip) if residual else TransformerSteps(clip)
