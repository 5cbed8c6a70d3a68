"""Official checkpoints: read, and compared with a model by the shapes of their weights."""

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from stages.config.section import Section
from stages.models.saved import build
from stages.storage.matching import Mismatches, find_mismatches
from stages.storage.weights import read_published


def read_official(checkpoint: Path, kind: str) -> dict[str, Tensor]:
    """The weights of an official checkpoint under our names; see MODELS for the kinds.

    Those of TRIS, CRIS, ETRIS and DETRIS have the same names here.
    """
    state = read_published(checkpoint)
    if kind == "rela":
        from stages.models.rela import official_weights  # imports transformers, for seconds

        return official_weights(state)
    return state


def compare_shapes(state: Mapping[str, Tensor], kind: str, config: Section) -> Mismatches:
    """How weights differ from those of a model of these options, which is not allocated."""
    with torch.device("meta"):
        return find_mismatches(build(kind, config, pretrained=False), state)
