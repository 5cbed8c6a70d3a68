"""The two attentions of TRIS between image and expression (official model/attn.py).

Attribute names are those of the official checkpoints. `BilateralAttention` (stage 1) computes the
expressions' projections once instead of once an image, and has a second form for one expression at
a time, where attention of the cells over the expressions is constant.

Shapes: B images, T expressions, P pairs of both, C channels, N = h x w cells, L words.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stages.models.layers import of_expressions


class InstanceNorm(nn.InstanceNorm2d):
    """torch's, with the right gradient of a single image on a CPU.

    There torch (2.15 and before) mixes up the cells of a gradient whose channels come last.
    """

    def __init__(self, channels: int) -> None:
        super().__init__(channels, affine=True)

    def forward(self, features: Tensor) -> Tensor:
        """(B, C, h, w) to the same."""
        normed = super().forward(features)
        if normed.requires_grad:
            normed.register_hook(torch.Tensor.contiguous)
        return normed


def _visual_projection(channels: int) -> nn.Sequential:
    convolution = nn.Conv2d(channels, channels, kernel_size=1)
    return nn.Sequential(convolution, InstanceNorm(channels), nn.ReLU())


def _textual_projection(channels: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(channels, channels), nn.ReLU())


class BilateralAttention(nn.Module):
    """Cells attend to expressions and expressions to cells; returns the update of each."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.scale = channels**-0.5
        self.v_proj1 = _visual_projection(channels)  # query
        self.v_proj2 = _visual_projection(channels)  # key
        self.v_proj3 = _visual_projection(channels)  # value
        self.t_proj1 = _textual_projection(channels)
        self.t_proj2 = _textual_projection(channels)
        self.t_proj3 = _textual_projection(channels)
        self.v_output = nn.Sequential(
            nn.Conv2d(channels, channels, kernel_size=1), InstanceNorm(channels)
        )
        self.t_output = nn.Sequential(nn.Linear(channels, channels))

    def forward(self, cells: Tensor, expressions: Tensor) -> tuple[Tensor, Tensor]:
        """All expressions (T, C) with every image (B, C, h, w): (B, C, h, w) and (B, T, C)."""
        query = self.v_proj1(cells).flatten(2).transpose(1, 2)  # (B, N, C)
        weights = (query @ self.t_proj2(expressions).T * self.scale).softmax(dim=2)  # (B, N, T)
        visual = weights @ self.t_proj3(expressions)  # (B, N, C)
        visual = self.v_output(visual.transpose(1, 2).reshape(cells.shape))
        key, value = self.keys_and_values(cells)
        return visual, self._read(expressions, key, value)

    def keys_and_values(self, cells: Tensor) -> tuple[Tensor, Tensor]:
        """Keys (B, C, N) and values (B, N, C) of images (B, C, h, w), for expressions."""
        return self.v_proj2(cells).flatten(2), self.v_proj3(cells).flatten(2).transpose(1, 2)

    def alone(self, expressions: Tensor, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """One expression (P, C) with each image's keys and values: (C, 1, 1) and (P, C).

        All cells attend to the same single expression and get equal values, which the instance norm
        turns into its bias: exact here, amplified rounding in the official code.
        """
        textual = self._read(expressions[:, None], key, value)[:, 0]
        norm: nn.Module = self.v_output[1]
        return norm.get_parameter("bias")[:, None, None], textual

    def _read(self, expressions: Tensor, key: Tensor, value: Tensor) -> Tensor:
        weights = (self.t_proj1(expressions) @ key * self.scale).softmax(dim=2)  # (B, T, N)
        return self.t_output(weights @ value)


class PixelAttention(nn.Module):
    """Cells attend to the words of an expression, and are gated by the result (LAVT)."""

    def __init__(self, visual: int, textual: int, channels: int | None = None) -> None:
        """`channels` of the attention; None: those of the image features, as published."""
        super().__init__()
        inner = channels or visual
        self.scale = inner**-0.5
        self.Wk = nn.Conv1d(textual, inner, kernel_size=1)
        self.Wv = nn.Conv1d(textual, inner, kernel_size=1)
        self.Wq = nn.Conv2d(visual, inner, kernel_size=1)
        self.Wm = nn.Conv2d(visual, visual, kernel_size=1)
        self.Ww = nn.Conv2d(inner, visual, kernel_size=1)
        self.Wo = nn.Conv2d(visual, visual, kernel_size=1)
        self.ins_q = InstanceNorm(inner)
        self.ins_w = InstanceNorm(visual)

    def forward(self, features: Tensor, words: Tensor, image_index: Tensor) -> Tensor:
        """Features (I, C, h, w) of images and words (T, L, D) of expressions: (T, C, h, w)."""
        height, width = features.shape[2:]
        query = self.ins_q(self.Wq(features)).flatten(2).transpose(1, 2)  # (I, N, A)
        gates = F.relu(self.Wm(features))  # (I, C, h, w)
        words = words.transpose(1, 2)  # (T, D, L)
        weights = torch.bmm(query[image_index], self.Wk(words)) * self.scale  # (T, N, L)
        read = torch.bmm(self.Wv(words), weights.softmax(dim=2).transpose(1, 2))  # (T, A, N)
        read = self.ins_w(self.Ww(read.unflatten(2, (height, width))))  # (T, C, h, w)
        read = read.contiguous(memory_format=torch.channels_last)  # as the gates are
        return F.relu(self.Wo(of_expressions(gates, image_index) * read))
