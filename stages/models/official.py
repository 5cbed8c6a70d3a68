"""Official checkpoints: read, and told apart by the shapes of their weights."""

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from stages.config.encoders import ClipSource
from stages.config.section import Section
from stages.models.saved import build
from stages.storage.published_weights import Misfits, find_misfits, read_weights


def read_official(checkpoint: Path, kind: str) -> dict[str, Tensor]:
    """The weights of an official checkpoint under our names; see MODELS for the kinds.

    Those of TRIS, CRIS, ETRIS and DETRIS have the same names here.
    """
    state = read_weights(checkpoint)
    if kind == "rela":
        from stages.models.rela import official_weights  # imports transformers, for seconds

        return official_weights(state)
    return state


def compare_shapes(
    state: Mapping[str, Tensor], kind: str, config: Section, clip: ClipSource
) -> Misfits:
    """How weights differ from those of a model of these options, which takes no memory for it."""
    with torch.device("meta"):
        return find_misfits(build(kind, config, clip, pretrained=False), state)
