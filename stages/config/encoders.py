"""The encoders that models start from."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from stages.config.section import (
    Section,
)


class ClipSource(Section):
    """A CLIP: open_clip's name of it (RN50, ViT-B-32), or a .json that describes a small one."""

    model: str
    weights: Path | None = None  # None: random weights
    output_stride: Literal[8, 16, 32] = 32  # pixels a cell of the last feature map
    context_length: Annotated[int, Field(ge=4, le=77)] = 20  # tokens, start and end included

    @property
    def files(self) -> list[Path]:
        """The files that it is read from."""
        described = [Path(self.model)] if self.model.endswith(".json") else []
        return described + ([self.weights] if self.weights is not None else [])


class DinoSource(Section):
    """A DINOv2 with registers: timm's name of it, or a tiny one of no published weights."""

    model: Literal[
        "vit_base_patch14_reg4_dinov2",
        "vit_large_patch14_reg4_dinov2",
        "tiny",
    ] = "vit_base_patch14_reg4_dinov2"
    weights: Path | None = None  # Meta's dinov2_vit*14_reg4_pretrain.pth; None: random weights

    @property
    def files(self) -> list[Path]:
        """The files that it is read from."""
        return [self.weights] if self.weights is not None else []

    def without_weights(self) -> "DinoSource":
        """The same with random weights."""
        return self.model_copy(update={"weights": None})
