"""The adapters of DETRIS: the only parts of its frozen encoders that learn (official adapter.py).

Attribute names are those of the official checkpoints. As there, the prefix tokens (the start of an
expression; an image's class and registers) bypass all but the linear layers and are doubled.

Shapes: B images or expressions, N tokens without the prefix, C channels, L words, D text width.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

SHARE = 0.2  # of an adapter's output in what its block adds
ATTENTION_CHANNELS = 128
ATTENTION_HEADS = 8
ATTENTION_DROPOUT = 0.1


class _Convolution(nn.Module):
    """Convolution that keeps the size, batch norm and relu."""

    def __init__(self, kind: type[nn.Module], inputs: int, outputs: int, kernel: int) -> None:
        super().__init__()
        self.conv = kind(inputs, outputs, kernel, padding=kernel // 2)
        norm = nn.BatchNorm1d if kind is nn.Conv1d else nn.BatchNorm2d
        self.bn = norm(outputs, eps=1e-3)

    def forward(self, features: Tensor) -> Tensor:
        return F.relu(self.bn(self.conv(features)))


class _Adapter(nn.Module):
    """Three branches of growing reach, each seeing the input and the branches before it."""

    def __init__(self, kind: type[nn.Module], outer: int, inner: int) -> None:
        super().__init__()
        half, quarter, few = inner // 2, inner // 4, inner // 16
        self.dense_branch1 = _Convolution(kind, inner, half, 1)
        self.dense_branch2 = nn.Sequential(
            _Convolution(kind, inner + half, few, 1), _Convolution(kind, few, quarter, 3)
        )
        self.dense_branch3 = nn.Sequential(
            _Convolution(kind, inner + half + quarter, few, 1), _Convolution(kind, few, quarter, 5)
        )
        self.D_fc1 = nn.Linear(outer, inner)
        self.D_fc2 = nn.Linear(inner, outer)

    def branches(self, features: Tensor) -> Tensor:
        """Feature maps (B, C, ...) to the three branches' (B, C, ...)."""
        first = self.dense_branch1(features)
        second = self.dense_branch2(torch.cat([features, first], dim=1))
        third = self.dense_branch3(torch.cat([features, first, second], dim=1))
        return torch.cat([first, second, third], dim=1)

    def finish(self, tokens: Tensor, adapted: Tensor, prefix: int) -> Tensor:
        """Join inner tokens (B, P + N, C) with the adapted ones after the prefix (B, N, C)."""
        return self.D_fc2(torch.cat([tokens[:, :prefix], adapted], dim=1) + tokens)


class TextAdapter(_Adapter):
    """Adapter of a block of the text transformer."""

    def __init__(self, outer: int, inner: int) -> None:
        super().__init__(nn.Conv1d, outer, inner)

    def forward(self, words: Tensor) -> Tensor:
        """The change (B, L, D) of words (B, L, D)."""
        tokens = F.relu(self.D_fc1(words))
        adapted = self.branches(tokens[:, 1:].transpose(1, 2)).transpose(1, 2)
        return self.finish(tokens, adapted, prefix=1)


class VisualAdapter(_Adapter):
    """Adapter of a block of the image transformer: cells attend to words and are replaced."""

    def __init__(self, outer: int, inner: int, words: int) -> None:
        super().__init__(nn.Conv2d, outer, inner)
        self.cross = WordAttention(inner, words)
        for module in self.modules():
            if isinstance(module, (nn.Conv2d, nn.Linear)) and module.bias is not None:
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
                nn.init.zeros_(module.bias)

    def forward(self, tokens: Tensor, words: Tensor, prefix: int) -> Tensor:
        """Tokens (B, P + N, C) of square images and words (B, L, D) to (B, P + N, C)."""
        tokens = F.relu(self.D_fc1(tokens))
        cells = tokens[:, prefix:].transpose(1, 2)  # (B, C, N)
        side = round(cells.shape[2] ** 0.5)
        cells = cells.unflatten(2, (side, side))
        cells = (self.branches(cells) + cells).flatten(2).transpose(1, 2)
        return self.finish(tokens, self.cross(cells, words), prefix)


class WordAttention(nn.Module):
    """Cells attend to all words, padding included as in the official code."""

    def __init__(self, channels: int, words: int) -> None:
        super().__init__()
        inner = ATTENTION_CHANNELS
        self.multihead_attn = nn.MultiheadAttention(
            inner, ATTENTION_HEADS, ATTENTION_DROPOUT, batch_first=True
        )
        self.image_proj = nn.Linear(channels, inner)
        self.text_proj = nn.Linear(words, inner)
        self.back_proj = nn.Linear(inner, channels)

    def forward(self, cells: Tensor, words: Tensor) -> Tensor:
        """Cells (B, N, C) and words (B, L, D) to (B, N, C)."""
        memory = self.text_proj(words)
        read = self.multihead_attn(self.image_proj(cells), memory, memory, need_weights=False)[0]
        return self.back_proj(read)
