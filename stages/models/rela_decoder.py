"""ReLA's decoder: learned regions attend to the image, to the words and to each other.

Follows official GRES/ReLA (Liu et al., CVPR 2023; gres_model/modeling/transformer_decoder/), whose
checkpoints have these attribute names. Each query stands for a region. A mask is the sum of the
regions' masks, weighted by how much each region belongs to it (the `minimap`). Departures: outputs
that no later layer needs are not computed; there is no dropout (0 as published).

Shapes: T expressions, L words, Q regions, C channels, maps of h x w cells.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stages.models.deformable import MAPS, cell_positions

LANGUAGE_WEIGHT = 0.1  # official rla_weight: the share of the words in a region


@dataclass(frozen=True)
class DecoderOutput:
    """Logits for each expression; class 0 is background, or that there is a target."""

    masks: Tensor  # (T, 2, h, w) logits
    minimap: Tensor  # (T, Q, 2) logits: whether a region belongs to the target
    no_target: Tensor  # (T, 2) logits


class SelfAttention(nn.Module):
    """Queries attend to each other; shortcut, norm."""

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.self_attn = _attention(channels, heads)
        self.norm = nn.LayerNorm(channels)

    def forward(self, queries: Tensor, positions: Tensor) -> Tensor:
        """Queries (T, Q, C) with positions (Q, C): (T, Q, C)."""
        placed = queries + positions
        read, _ = self.self_attn(placed, placed, queries, need_weights=False)
        return self.norm(queries + read)


class CrossAttention(nn.Module):
    """Queries attend to something else; shortcut, norm."""

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.multihead_attn = _attention(channels, heads)
        self.norm = nn.LayerNorm(channels)

    def forward(
        self,
        queries: Tensor,
        keys: Tensor,
        values: Tensor,
        places: Tensor | float = 0.0,
        attention_mask: Tensor | None = None,
    ) -> Tensor:
        """Queries (T, Q, C) at `places` (Q, C) attend to keys and values (T, N, C).

        `attention_mask` (T, Q, N) is true where a query must not attend.
        """
        allowed = None if attention_mask is None else ~attention_mask[:, None]  # (T, 1, Q, N)
        read = _attend(self.multihead_attn, queries + places, keys, values, allowed)
        return self.norm(queries + read)


def _attend(
    attention: nn.MultiheadAttention,
    queries: Tensor,
    keys: Tensor,
    values: Tensor,
    allowed: Tensor | None,
) -> Tensor:
    """What `attention` computes; its own call needs a mask of numbers for each head."""
    weights = attention.in_proj_weight.chunk(3)
    biases = attention.in_proj_bias.chunk(3)
    query, key, value = (
        F.linear(inputs, weight, bias).unflatten(2, (attention.num_heads, -1)).transpose(1, 2)
        for inputs, weight, bias in zip((queries, keys, values), weights, biases, strict=True)
    )  # (T, heads, ..., c)
    read = F.scaled_dot_product_attention(query, key, value, attn_mask=allowed)
    return attention.out_proj(read.transpose(1, 2).flatten(2))


class FeedForward(nn.Module):
    """Two linear layers; shortcut, norm."""

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.linear1 = nn.Linear(channels, hidden)
        self.linear2 = nn.Linear(hidden, channels)
        self.norm = nn.LayerNorm(channels)
        for layer in (self.linear1, self.linear2):
            nn.init.xavier_uniform_(layer.weight)

    def forward(self, queries: Tensor) -> Tensor:
        return self.norm(queries + self.linear2(self.linear1(queries).relu()))


class Perceptron(nn.Module):
    """Linear layers with units between them."""

    def __init__(self, *widths: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(*pair) for pair in pairwise(widths))

    def forward(self, features: Tensor) -> Tensor:
        for layer in self.layers[:-1]:
            features = layer(features).relu()
        return self.layers[-1](features)


class AttentionMask(nn.Module):
    """True at the cells that a region does not attend to: those outside its current mask.

    A region with an empty mask attends to all cells. No gradient passes through these hard
    decisions. It is a module so that hooks can read and replace its output.
    """

    @torch.no_grad()
    def forward(self, masks: Tensor, size: tuple[int, int]) -> Tensor:
        """Mask logits (T, Q, H, W) to an attention mask (T, Q, h * w) for a map of `size`."""
        small = F.interpolate(masks, size, mode="bilinear", align_corners=False)
        outside = small.flatten(2).sigmoid() < 0.5
        return outside & ~outside.all(dim=2, keepdim=True)


class RegionDecoder(nn.Module):
    """Layers in which regions attend to one map of the image, to each other and, once, to words."""

    def __init__(
        self, channels: int, text_width: int, queries: int, heads: int, hidden: int, layers: int
    ) -> None:
        super().__init__()
        self.lang_weight = nn.Parameter(torch.zeros(()))
        self.RLA_vision = nn.ModuleList(SelfAttention(channels, heads) for _ in range(layers))
        self.RIA_layers = nn.ModuleList(CrossAttention(channels, heads) for _ in range(layers))
        self.transformer_ffn_layers = nn.ModuleList(
            FeedForward(channels, hidden) for _ in range(layers)
        )
        self.decoder_norm = nn.LayerNorm(channels)
        self.query_feat = nn.Embedding(queries, channels)
        self.query_embed = nn.Embedding(queries, channels)
        self.lang_proj = nn.Linear(text_width, channels, bias=False)
        nn.init.zeros_(self.lang_proj.weight)
        self.RLA_lang_att = CrossAttention(channels, heads)
        self.level_embed = nn.Embedding(MAPS, channels)
        self.minimap_embed = nn.Linear(channels, 2)
        self.nt_embed = Perceptron(channels, channels, 2)
        self.mask_embed = Perceptron(channels, channels, channels, channels)
        self.attention_mask = AttentionMask()

    def forward(
        self, maps: Sequence[Tensor], mask_features: Tensor, words: Tensor
    ) -> DecoderOutput:
        """Maps (T, C, h, w), coarsest first, mask features (T, C, H, W) and words (T, L, D)."""
        cells, keys = self._flatten(maps)
        places = self.query_embed.weight  # (Q, C)
        queries = self.query_feat.weight.expand(words.shape[0], -1, -1)  # (T, Q, C)
        for number in range(len(self.RIA_layers)):
            level = number % MAPS
            size = (maps[level].shape[2], maps[level].shape[3])
            mask = self.attention_mask(self._region_masks(queries, mask_features), size)
            queries = self.RIA_layers[number](queries, keys[level], cells[level], places, mask)
            if number == 0:
                queries = queries + self._read_words(queries, words)
            queries = self.RLA_vision[number](queries, places)
            queries = self.transformer_ffn_layers[number](queries)
        return self._output(self.decoder_norm(queries), mask_features)

    def _flatten(self, maps: Sequence[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """Cells of each map and their keys, both (T, h * w, C)."""
        cells, keys = [], []
        for number, features in enumerate(maps):
            flat = features.flatten(2).transpose(1, 2) + self.level_embed.weight[number]
            _, channels, height, width = features.shape
            cells.append(flat)
            keys.append(flat + cell_positions(height, width, channels, features.device))
        return cells, keys

    def _read_words(self, queries: Tensor, words: Tensor) -> Tensor:
        """What regions (T, Q, C) read from the words; padding is read too, as officially."""
        words = self.lang_proj(words)  # (T, L, C)
        read = self.RLA_lang_att(queries, words, words)
        return read * self.lang_weight.sigmoid() * LANGUAGE_WEIGHT

    @torch.no_grad()
    def _region_masks(self, queries: Tensor, mask_features: Tensor) -> Tensor:
        """The current mask of each region (T, Q, H, W), as logits."""
        embedded = self.mask_embed(self.decoder_norm(queries))
        return torch.einsum("tqc,tchw->tqhw", embedded, mask_features)

    def _output(self, regions: Tensor, mask_features: Tensor) -> DecoderOutput:
        minimap = self.minimap_embed(regions)  # (T, Q, 2)
        target = torch.einsum("tqa,tqc->tac", minimap, self.mask_embed(regions))  # (T, 2, C)
        return DecoderOutput(
            masks=torch.einsum("tac,tchw->tahw", target, mask_features),
            minimap=minimap,
            no_target=self.nt_embed(regions).mean(dim=1),
        )


def _attention(channels: int, heads: int) -> nn.MultiheadAttention:
    attention = nn.MultiheadAttention(channels, heads, batch_first=True)
    nn.init.xavier_uniform_(attention.out_proj.weight)
    return attention
