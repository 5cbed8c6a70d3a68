"""A CLIP of a few thousand weights, for tests of what is built on it."""

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from stages.backbones.clip import Clip

VOCABULARY = 30
CONTEXT = 12
SIZE = 96  # of the images it was "trained" on
DESCRIPTION: dict[str, Any] = {
    "embed_dim": 24,
    "vision_cfg": {"image_size": SIZE, "layers": [1, 1, 1, 1], "width": 8, "head_width": 64},
    "text_cfg": {
        "context_length": CONTEXT,
        "vocab_size": VOCABULARY,
        "width": 16,
        "heads": 2,
        "layers": 2,
    },
    "quick_gelu": True,
    "vocabulary": ["red", "square"],
}


def small_clip(output_stride: int = 32, seed: int = 0, text_layers: int = 2) -> Clip:
    """With random weights in which every layer does something."""
    torch.manual_seed(seed)
    text = {**DESCRIPTION["text_cfg"], "layers": text_layers}
    clip = Clip({**DESCRIPTION, "text_cfg": text}, output_stride)
    for name, parameter in clip.named_parameters():
        if name.endswith("bn3.weight"):  # zero in a fresh CLIP
            nn.init.ones_(parameter)
    return clip


def write_description(folder: Path) -> str:
    path = folder / "small.json"
    path.write_text(json.dumps(DESCRIPTION))
    return str(path)


def small_tokens(count: int, length: int = CONTEXT, seed: int = 0) -> Tensor:
    """Start, some words, end (the highest id), zeros."""
    stream = torch.Generator().manual_seed(seed)
    tokens = torch.zeros(count, length, dtype=torch.int64)
    for number, row in enumerate(tokens):
        words = 2 + number % (length - 4)
        row[0] = 1
        row[1 : words + 1] = torch.randint(2, VOCABULARY - 1, (words,), generator=stream)
        row[words + 1] = VOCABULARY - 1
    return tokens
