"""Swin (Liu et al., ICCV 2021) whose stages read the expression, as LAVT and GRES/ReLA have it.

Blocks, attention and merging are timm's. After each stage the cells attend to the words, and what
they read is the stage's output; gated, it also joins the input of the next stage. Parameters have
the names of official ReLA (gres_model/modeling/backbone/swin.py); its table of relative positions
(`relative_position_index`), a function of the window size, is not kept in files. Departures: the
first stage's blocks, which have not read anything yet, are computed once an image.

Shapes: B images, T expressions of L words, C channels, N = h x w cells.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
import torch.nn.functional as F
from timm.models.swin_transformer import PatchMerging, SwinTransformerBlock, window_partition
from timm.models.swin_transformer import window_reverse as join_windows
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from stages.storage.matching import load_exactly
from stages.storage.weights import read_published

PATCH = 4  # pixels
MASKED = -100.0  # official: instead of minus infinity


@dataclass(frozen=True)
class SwinSize:
    """Channels of the first stage, and blocks, heads and window of each."""

    width: int
    depths: tuple[int, int, int, int]
    heads: tuple[int, int, int, int]
    window: int


SIZES = {
    "swin_tiny": SwinSize(96, (2, 2, 6, 2), (3, 6, 12, 24), 7),
    "swin_base": SwinSize(128, (2, 2, 18, 2), (4, 8, 16, 32), 12),
    "swin_mini": SwinSize(24, (2, 2, 2, 2), (2, 4, 8, 8), 6),
}


class Swin(nn.Module):
    """Feature maps of strides 4, 8, 16 and 32 of an image, each in the light of an expression."""

    reads_text = True

    def __init__(self, size: SwinSize, text_width: int, drop_path: float = 0.3) -> None:
        super().__init__()
        widths = [size.width * 2**number for number in range(4)]
        self.channels = tuple(widths)
        self.patch_embed = PatchEmbedding(size.width)
        # The chance to leave a block out grows from the first block to the last.
        # On the CPU also where the weights are not: they are numbers, not weights.
        steps = torch.linspace(0, drop_path, sum(size.depths), device="cpu")
        chances = steps.split(list(size.depths))
        self.layers = nn.ModuleList(
            Stage(
                width,
                size.heads[number],
                size.window,
                text_width,
                drop_paths=chances[number].tolist(),
                is_last=number == 3,
            )
            for number, width in enumerate(widths)
        )
        self.norm0, self.norm1, self.norm2, self.norm3 = (nn.LayerNorm(width) for width in widths)

    def forward(
        self, images: Tensor, words: Tensor, is_word: Tensor, image_index: Tensor
    ) -> list[Tensor]:
        """Maps (T, C, h, w) of images (B, 3, H, W), finest first.

        Expression t has the features `words` (T, L, D) where `is_word` (T, L), and is about image
        `image_index[t]`.
        """
        cells = self.patch_embed(images)  # (B, h, w, C)
        maps = []
        norms = (self.norm0, self.norm1, self.norm2, self.norm3)
        stages = cast(list[Stage], list(self.layers))
        for number, (stage, norm) in enumerate(zip(stages, norms, strict=True)):
            cells = stage.look(cells)
            if number == 0:
                cells = cells[image_index]  # (T, h, w, C)
            read = stage.read(cells, words, is_word)  # (T, h, w, C)
            maps.append(norm(read).permute(0, 3, 1, 2).contiguous())
            cells = stage.next(cells, read)
        return maps

    def load_pretrained(self, path: Path) -> None:
        """Start from the published ImageNet weights (swin_*_patch4_window*.pth).

        The norms of the outputs and the parts that read words are new.
        """
        published = without_tables(read_published(path))
        kept = {name: t for name, t in published.items() if not name.startswith(("head.", "norm."))}
        new = {name: tensor for name, tensor in self.state_dict().items() if _is_new(name)}
        load_exactly(self, {**kept, **new}, path)


def _is_new(name: str) -> bool:
    of_outputs = name.startswith(("norm0.", "norm1.", "norm2.", "norm3."))
    return of_outputs or ".fusion." in name or ".res_gate." in name


def without_tables(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights without tables that follow from the sizes of windows and images."""
    tables = ("relative_position_index", "attn_mask")
    return {name: tensor for name, tensor in state.items() if not name.endswith(tables)}


class PatchEmbedding(nn.Module):
    """One cell for each patch of 4 x 4 pixels."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, channels, kernel_size=PATCH, stride=PATCH)
        self.norm = nn.LayerNorm(channels)

    def forward(self, images: Tensor) -> Tensor:
        return self.norm(self.proj(images).permute(0, 2, 3, 1))  # (B, h, w, C)


class Stage(nn.Module):
    """Blocks of windowed attention, what their cells read of the words, and the way on."""

    def __init__(
        self,
        channels: int,
        heads: int,
        window: int,
        text_width: int,
        drop_paths: list[float],
        is_last: bool,
    ) -> None:
        super().__init__()
        self.window = window
        self.recomputes = False  # blocks in the backward pass, whose inner values are not kept
        self.blocks = nn.ModuleList(
            Block(channels, heads, window, shift=number % 2 * (window // 2), drop_path=chance)
            for number, chance in enumerate(drop_paths)
        )
        self.fusion = WordReader(channels, text_width)
        self.downsample = None if is_last else _merging(channels)
        self.res_gate = None if is_last else _gate(channels)

    def look(self, cells: Tensor) -> Tensor:
        """Cells (B, h, w, C) after the blocks, whose shifted windows have one mask."""
        height, width = (side + -side % self.window for side in cells.shape[1:3])
        mask = window_mask(height, width, self.window, cells.device)
        for block in self.blocks:
            if self.recomputes and self.training:
                cells = checkpoint(block, cells, mask, use_reentrant=False)
            else:
                cells = block(cells, mask)
        return cells

    def read(self, cells: Tensor, words: Tensor, is_word: Tensor) -> Tensor:
        """What cells (T, h, w, C) make of words (T, L, D): (T, h, w, C)."""
        height, width = cells.shape[1:3]
        return self.fusion(cells.flatten(1, 2), words, is_word).unflatten(1, (height, width))

    def next(self, cells: Tensor, read: Tensor) -> Tensor:
        """The input (T, h / 2, w / 2, 2 C) of the next stage."""
        if self.downsample is None or self.res_gate is None:
            return cells
        return self.downsample(cells + self.res_gate(read) * read)


class Block(SwinTransformerBlock):
    """timm's block; cells that fill up the last windows are added before the shift, not after it.

    Official Swin, unlike timm, shifts the padding along, and keeps window and shift as they are in
    maps that are smaller than a window.
    """

    def __init__(
        self, channels: int, heads: int, window: int, shift: int, drop_path: float
    ) -> None:
        super().__init__(
            channels,
            input_resolution=(window, window),  # not used: the masks are made for each input
            num_heads=heads,
            window_size=window,
            shift_size=shift,
            always_partition=True,
            dynamic_mask=True,
            drop_path=drop_path,
        )
        # torch's scaled_dot_product_attention: timm declares its switch final.
        self.attn.fused_attn = True  # type: ignore[misc]

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:  # type: ignore[override]
        """Cells (B, h, w, C), with the mask (windows, cells, cells) of shifted windows."""
        x = x + self.drop_path1(self._attend(self.norm1(x), mask))
        cells = x.flatten(1, 2)
        cells = cells + self.drop_path2(self.mlp(self.norm2(cells)))
        return cells.view_as(x)

    def _attend(self, x: Tensor, mask: Tensor) -> Tensor:
        height, width = x.shape[1:3]
        window, shift = self.window_size[0], self.shift_size[0]
        cells = F.pad(x, (0, 0, 0, -width % window, 0, -height % window))
        padded = cells.shape[1:3]
        cells = torch.roll(cells, (-shift, -shift), dims=(1, 2))
        windows = window_partition(cells, self.window_size).flatten(1, 2)  # (T windows, cells, C)
        windows = self._attend_windows(windows, mask if shift else None)
        windows = windows.unflatten(1, self.window_size)
        cells = join_windows(windows, self.window_size, *padded)
        return torch.roll(cells, (shift, shift), dims=(1, 2))[:, :height, :width]

    def _attend_windows(self, windows: Tensor, mask: Tensor | None) -> Tensor:
        """timm's WindowAttention, whose mask is not repeated for each image.

        Windows (T windows, cells, C) to the same.
        """
        attention = self.attn
        count, cells, _ = windows.shape
        bias = attention._get_rel_pos_bias()  # (1, heads, cells, cells)
        if mask is not None:
            bias = bias + mask[:, None]  # (windows, heads, cells, cells)
        shape = (count // len(bias), len(bias) * attention.num_heads, cells, -1)
        parts = attention.qkv(windows).unflatten(2, (3, attention.num_heads, -1))
        query, key, value = (
            qkv.transpose(1, 2).reshape(shape) for qkv in parts.unbind(2)
        )  # (T, windows heads, cells, c)
        read = F.scaled_dot_product_attention(query, key, value, attn_mask=bias.flatten(0, 1))
        read = read.reshape(count, attention.num_heads, cells, -1).transpose(1, 2)
        return attention.proj(read.flatten(2))


def window_mask(height: int, width: int, window: int, device: torch.device) -> Tensor:
    """Added to the attention of shifted windows: no cell sees another part of the map.

    (windows, cells, cells) of a map of whole windows. The last windows of a row and of a column
    have two parts, before and after the shift.
    """
    shift = window // 2
    rows, columns = (_parts(side, window, shift, device) for side in (height, width))
    parts = 3 * rows[:, None] + columns  # (h, w)
    windows = window_partition(parts[None, :, :, None], (window, window)).flatten(1)
    apart = windows[:, None] != windows[:, :, None]
    return apart.float() * MASKED


def _parts(side: int, window: int, shift: int, device: torch.device) -> Tensor:
    places = torch.arange(side, device=device)
    return (places >= side - window).int() + (places >= side - shift).int()


class WordReader(nn.Module):
    """Pixel-word attention (PWAM of LAVT): what a cell reads of the words, times what it is."""

    def __init__(self, channels: int, text_width: int) -> None:
        super().__init__()
        self.vis_project = nn.Sequential(nn.Conv1d(channels, channels, kernel_size=1), nn.GELU())
        self.image_lang_att = WordAttention(channels, text_width)
        self.project_mm = nn.Sequential(nn.Conv1d(channels, channels, kernel_size=1), nn.GELU())

    def forward(self, cells: Tensor, words: Tensor, is_word: Tensor) -> Tensor:
        """Cells (T, N, C) and words (T, L, D): (T, N, C)."""
        cells = cells.transpose(1, 2)  # (T, C, N)
        read = self.image_lang_att(cells, words, is_word)
        return self.project_mm(self.vis_project(cells) * read).transpose(1, 2)


class WordAttention(nn.Module):
    """Cells attend to the words of their expression, with one head."""

    def __init__(self, channels: int, text_width: int) -> None:
        super().__init__()
        self.f_key = nn.Sequential(nn.Conv1d(text_width, channels, kernel_size=1))
        self.f_query = nn.Sequential(
            nn.Conv1d(channels, channels, kernel_size=1), nn.InstanceNorm1d(channels)
        )
        self.f_value = nn.Sequential(nn.Conv1d(text_width, channels, kernel_size=1))
        self.W = nn.Sequential(
            nn.Conv1d(channels, channels, kernel_size=1), nn.InstanceNorm1d(channels)
        )

    def forward(self, cells: Tensor, words: Tensor, is_word: Tensor) -> Tensor:
        """Cells (T, C, N) and words (T, L, D): (T, C, N)."""
        words = words.transpose(1, 2)  # (T, D, L)
        read = F.scaled_dot_product_attention(  # one head, named: ONNX has no other form
            self.f_query(cells).transpose(1, 2)[:, None],  # (T, 1, N, C)
            self.f_key(words).transpose(1, 2)[:, None],  # (T, 1, L, C)
            self.f_value(words).transpose(1, 2)[:, None],
            attn_mask=is_word[:, None, None, :],
        )
        return self.W(read[:, 0].transpose(1, 2))


def _merging(channels: int) -> PatchMerging:
    merging = PatchMerging(channels)
    norm = merging.norm  # official order: optimizer states follow it
    del merging.norm
    merging.norm = norm
    return merging


def _gate(channels: int) -> nn.Sequential:
    """Zero at the start; as the official one, it stays so: no gradient passes two zero layers."""
    gate: Any = nn.Sequential(
        nn.Linear(channels, channels, bias=False),
        nn.ReLU(),
        nn.Linear(channels, channels, bias=False),
        nn.Tanh(),
    )
    nn.init.zeros_(gate[0].weight)
    nn.init.zeros_(gate[2].weight)
    return gate
