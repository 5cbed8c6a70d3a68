"""BERT (Devlin et al., NAACL 2019) as features of the words of an expression.

The layers are transformers'; parameters have the names of its `BertModel` without the pooler, so
that official checkpoints of models built on BERT load by key.

Shapes: T expressions of L tokens, D width.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from torch import Tensor, nn
from transformers import BertConfig, BertModel

from stages.runtime.errors import InputError
from stages.storage.matching import load_exactly
from stages.storage.weights import read_published

BertSize = Literal["base", "mini"]
WORDS = 30522  # of bert-base-uncased's vocabulary
SIZES: dict[str, dict[str, Any]] = {
    "base": {},  # transformers' own defaults: 12 layers of width 768
    "mini": {
        "hidden_size": 96,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "intermediate_size": 384,
        "max_position_embeddings": 64,
    },
}
PADDING = 0  # the token id of what is no word


class Bert(nn.Module):
    """Words of an expression, each seen in the light of all others; padding is not attended to."""

    def __init__(self, size: BertSize = "base", words: int = WORDS) -> None:
        super().__init__()
        settings = {"vocab_size": words, "attn_implementation": "sdpa", **SIZES[size]}
        parts = BertModel(BertConfig(**settings), add_pooling_layer=False)
        self.embeddings = parts.embeddings
        self.encoder = parts.encoder

    @property
    def width(self) -> int:
        """D, the channels of a word's feature."""
        return self.embeddings.word_embeddings.embedding_dim

    @property
    def context_length(self) -> int:
        """The most tokens that an expression may have."""
        return self.embeddings.position_embeddings.num_embeddings

    def forward(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Features (T, L, D) of tokens (T, L), and which tokens are words (T, L).

        Raises InputError for more tokens than BERT has positions.
        """
        if tokens.shape[1] > self.context_length:
            raise InputError(
                f"tokens: {tokens.shape[1]} an expression; needed at most {self.context_length}"
            )
        is_word = tokens != PADDING
        attended = is_word[:, None, None, :]  # (T, heads, queries, L)
        features = self.encoder(self.embeddings(tokens), attention_mask=attended)
        return features.last_hidden_state, is_word

    def train_only(self, layers: int) -> None:
        """Leave the embeddings and all but the first `layers` layers as they are."""
        self.embeddings.requires_grad_(False)
        for layer in self.encoder.layer[layers:]:
            layer.requires_grad_(False)

    def load_pretrained(self, path: Path) -> None:
        """Start from a published BERT (pytorch_model.bin or .safetensors of a BERT)."""
        load_exactly(self, published_names(read_published(path)), path)


def published_names(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Published weights under the names used here: no pooler, no heads, no counters."""
    renamed = {}
    for name, tensor in state.items():
        name = name.removeprefix("bert.")
        name = name.replace("LayerNorm.gamma", "LayerNorm.weight")  # of the first files
        name = name.replace("LayerNorm.beta", "LayerNorm.bias")
        if name.startswith(("embeddings.", "encoder.")) and not name.endswith("position_ids"):
            renamed[name] = tensor
    return renamed
