"""The networks of CLIP: a residual one, a vision transformer, and the transformer of the text.

Parameters have the names and the order of OpenAI's files; new ones are drawn as open_clip draws
them, whose networks give the same values (tests/test_clip.py). Written anew because importing
open_clip takes longer than most steps of the embedded data set.

Shapes: B images or expressions, H x W pixels, C channels, h x w cells, N tokens, E embedding.
"""

from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

EXPANSION = 4  # outputs of a bottleneck, in multiples of its inner channels
REDUCTION = 32  # of the image, by a residual network


class LayerNorm(nn.LayerNorm):
    """Gives the number format that it is given, also where autocast computes it in float32."""

    def forward(self, values: Tensor) -> Tensor:
        return super().forward(values).to(values.dtype)


class QuickGELU(nn.Module):
    """The activation that OpenAI trained with: x * sigmoid(1.702 x)."""

    def forward(self, values: Tensor) -> Tensor:
        return values * torch.sigmoid(1.702 * values)


class Bottleneck(nn.Module):
    """Three convolutions and a way around them; its stride is an average pool."""

    def __init__(self, inputs: int, channels: int, stride: int = 1) -> None:
        super().__init__()
        outputs = channels * EXPANSION
        self.conv1 = nn.Conv2d(inputs, channels, kernel_size=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, kernel_size=3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.avgpool = nn.AvgPool2d(stride) if stride > 1 else nn.Identity()
        self.conv3 = nn.Conv2d(channels, outputs, kernel_size=1, bias=False)
        self.bn3 = nn.BatchNorm2d(outputs)
        self.relu = nn.ReLU(inplace=True)
        self.downsample: nn.Module | None = None
        if stride > 1 or inputs != outputs:
            around = nn.Conv2d(inputs, outputs, kernel_size=1, bias=False)
            layers = {"-1": nn.AvgPool2d(stride), "0": around, "1": nn.BatchNorm2d(outputs)}
            self.downsample = nn.Sequential(OrderedDict(layers))

    def forward(self, features: Tensor) -> Tensor:
        """(B, inputs, h, w) to (B, 4 channels, h / stride, w / stride)."""
        inner = self.relu(self.bn1(self.conv1(features)))
        inner = self.relu(self.bn2(self.conv2(inner)))
        inner = self.bn3(self.conv3(self.avgpool(inner)))
        inner += features if self.downsample is None else self.downsample(features)
        return self.relu(inner)


class AttentionPool(nn.Module):
    """Weights of the attention that pools a feature map of (h, w) to an embedding."""

    def __init__(self, side: int, channels: int, heads: int, embedding: int) -> None:
        super().__init__()
        positions = torch.randn(side**2 + 1, channels) / channels**0.5
        self.positional_embedding = nn.Parameter(positions)
        self.k_proj = nn.Linear(channels, channels)
        self.q_proj = nn.Linear(channels, channels)
        self.v_proj = nn.Linear(channels, channels)
        self.c_proj = nn.Linear(channels, embedding)
        self.num_heads = heads
        for layer in (self.q_proj, self.k_proj, self.v_proj, self.c_proj):
            nn.init.normal_(layer.weight, std=channels**-0.5)


class Coordinates(nn.Module):
    """Adds to each cell a learned combination of where it is: x and y from -1 to 1."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.slopes = nn.Parameter(0.5 * torch.randn(2, channels))

    def forward(self, features: Tensor) -> Tensor:
        """(B, C, h, w) to the same."""
        height, width = features.shape[2:]
        x = torch.linspace(-1, 1, width, dtype=features.dtype, device=features.device)
        y = torch.linspace(-1, 1, height, dtype=features.dtype, device=features.device)
        slopes = self.slopes.to(features.dtype)[:, :, None, None]
        return features + slopes[0] * x + slopes[1] * y[:, None]


class ResidualNetwork(nn.Module):
    """A ResNet with a stem of three convolutions, antialiased strides and attention as its pool.

    Its cells may have coordinates, which no published one has.
    """

    def __init__(
        self,
        layers: Sequence[int],
        embedding: int,
        heads: int,
        image_size: int,
        width: int,
        coordinates: bool = False,
    ) -> None:
        super().__init__()
        self.image_size = image_size
        self.conv1 = nn.Conv2d(3, width // 2, kernel_size=3, stride=2, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width // 2)
        self.conv2 = nn.Conv2d(width // 2, width // 2, kernel_size=3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width // 2)
        self.conv3 = nn.Conv2d(width // 2, width, kernel_size=3, padding=1, bias=False)
        self.bn3 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)
        self.avgpool = nn.AvgPool2d(2)
        self.layer1 = _layer(width, width, layers[0], stride=1)
        self.layer2 = _layer(4 * width, 2 * width, layers[1], stride=2)
        self.layer3 = _layer(8 * width, 4 * width, layers[2], stride=2)
        self.layer4 = _layer(16 * width, 8 * width, layers[3], stride=2)
        self.attnpool = AttentionPool(image_size // REDUCTION, 32 * width, heads, embedding)
        self.coordinates = Coordinates(width) if coordinates else None

    def stem(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) to (B, width, H / 4, W / 4)."""
        features = self.relu(self.bn1(self.conv1(images)))
        features = self.relu(self.bn2(self.conv2(features)))
        features = self.avgpool(self.relu(self.bn3(self.conv3(features))))
        return features if self.coordinates is None else self.coordinates(features)


def fold_norms(network: ResidualNetwork) -> None:
    """Fold the batch norms of a network that is only evaluated into the convolutions before them.

    They take a fifth of its time. Its values change by rounding alone.
    """
    layers = (network.layer1, network.layer2, network.layer3, network.layer4)
    for part in (network, *(block for layer in layers for block in layer)):
        for number in (1, 2, 3):
            _fold(part, f"conv{number}", f"bn{number}")
        if getattr(part, "downsample", None) is not None:
            _fold(part.downsample, "0", "1")


def _fold(part: Any, convolution: str, norm: str) -> None:
    folded = fuse_conv_bn_eval(part.get_submodule(convolution), part.get_submodule(norm))
    part.set_submodule(convolution, folded)
    part.set_submodule(norm, nn.Identity())


def _layer(inputs: int, channels: int, blocks: int, stride: int) -> nn.Sequential:
    first = Bottleneck(inputs, channels, stride)
    others = [Bottleneck(channels * EXPANSION, channels) for _ in range(blocks - 1)]
    for block in (first, *others):
        nn.init.zeros_(block.bn3.weight)
    return nn.Sequential(first, *others)


class Block(nn.Module):
    """Attention among all tokens, then a network on each, both added to what came in."""

    def __init__(self, width: int, heads: int, mlp_ratio: float, activation: nn.Module) -> None:
        super().__init__()
        inner = int(width * mlp_ratio)
        self.attn = nn.MultiheadAttention(width, heads, batch_first=True)
        self.ln_1 = LayerNorm(width)
        layers = {"c_fc": nn.Linear(width, inner), "gelu": activation}
        self.mlp = nn.Sequential(OrderedDict(layers | {"c_proj": nn.Linear(inner, width)}))
        self.ln_2 = LayerNorm(width)

    def forward(self, tokens: Tensor, attn_mask: Tensor | None = None) -> Tensor:
        """(B, N, C) to the same; the mask (N, N) is added to the logits of the attention."""
        tokens = tokens + self.attention(self.ln_1(tokens), attn_mask)
        return tokens + self.mlp(self.ln_2(tokens))

    def attention(self, tokens: Tensor, attn_mask: Tensor | None = None) -> Tensor:
        """What the attention adds to tokens (B, N, C), of these after their norm."""
        mask = None if attn_mask is None else attn_mask.to(tokens.dtype)
        return self.attn(tokens, tokens, tokens, need_weights=False, attn_mask=mask)[0]


class Transformer(nn.Module):
    """Blocks, one after the other."""

    def __init__(
        self, width: int, layers: int, heads: int, mlp_ratio: float, is_quick: bool
    ) -> None:
        super().__init__()
        self.resblocks: Any = nn.ModuleList(
            Block(width, heads, mlp_ratio, QuickGELU() if is_quick else nn.GELU())
            for _ in range(layers)
        )

    def draw(self) -> None:
        """New weights, as for the transformer of the text."""
        for block in self.resblocks:
            width = block.attn.embed_dim
            last = width**-0.5 * (2 * len(self.resblocks)) ** -0.5
            nn.init.normal_(block.attn.in_proj_weight, std=width**-0.5)
            nn.init.normal_(block.attn.out_proj.weight, std=last)
            nn.init.normal_(block.mlp.c_fc.weight, std=(2 * width) ** -0.5)
            nn.init.normal_(block.mlp.c_proj.weight, std=last)

    def forward(self, tokens: Tensor, attn_mask: Tensor | None = None) -> Tensor:
        for block in self.resblocks:
            tokens = block(tokens, attn_mask)
        return tokens


class VisionTransformer(nn.Module):
    """An image as a token for itself and one for each patch; the first becomes the embedding."""

    def __init__(
        self,
        image_size: int,
        patch_size: int,
        width: int,
        layers: int,
        heads: int,
        embedding: int,
        mlp_ratio: float,
        is_quick: bool,
    ) -> None:
        super().__init__()
        self.image_size = image_size
        scale, side = width**-0.5, image_size // patch_size
        self.conv1 = nn.Conv2d(3, width, kernel_size=patch_size, stride=patch_size, bias=False)
        self.class_embedding = nn.Parameter(scale * torch.randn(width))
        self.positional_embedding = nn.Parameter(scale * torch.randn(side**2 + 1, width))
        self.ln_pre = LayerNorm(width)
        self.transformer = Transformer(width, layers, heads, mlp_ratio, is_quick)
        self.ln_post = LayerNorm(width)
        self.proj = nn.Parameter(scale * torch.randn(width, embedding))

    def embed(self, images: Tensor) -> Tensor:
        """Tokens (B, 1 + N, C) of images (B, 3, H, W), the image's own first."""
        patches = self.conv1(images).flatten(2).transpose(1, 2)  # (B, N, C)
        own = self.class_embedding.to(patches.dtype).expand(len(patches), 1, -1)
        return torch.cat([own, patches], dim=1)

    def forward(self, images: Tensor) -> Tensor:
        """Embeddings (B, E) of images (B, 3, H, W)."""
        tokens = self.embed(images)
        tokens = tokens + self.positional_embedding.to(tokens.dtype)
        tokens = self.transformer(self.ln_pre(tokens))
        return self.ln_post(tokens)[:, 0] @ self.proj
