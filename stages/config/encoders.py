"""The encoders that models start from."""

import json
import re
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationInfo, field_validator, model_validator

from stages.config.hub import File
from stages.config.section import Positive, Section, require_least

ImageEncoder = Literal["residual", "transformer", "other"]
ENCODERS: dict[ImageEncoder, str] = {
    "residual": "a residual CLIP (RN50, RN101)",
    "transformer": "a vision transformer (ViT-B-16)",
    "other": "another image encoder",
}


class ClipSource(Section):
    """A CLIP by open_clip's names (RN50 and openai), or a .json that describes a small one.

    Its activation is the one that weights of these names were trained with. Options that are not
    given are those of its model's default, unless another `model` is named; other `pretrained`
    weights do not take the default's file.
    """

    model: str  # as open_clip calls it: RN50, ViT-B-32, ViT-B-32-quickgelu; or a .json
    pretrained: str = "openai"  # what the weights were trained on, as open_clip calls it
    weights: File | None = None  # None: random weights
    output_stride: Literal[8, 16, 32] = 32  # pixels a cell of a residual CLIP's last feature map
    context_length: Annotated[int, Field(ge=4, le=77)] = 20  # tokens, start and end included
    keep_end: bool = True  # of an expression that is too long; false: as TRIS's code cuts it

    @model_validator(mode="after")
    def _require_a_stride_that_can_be(self) -> "ClipSource":
        if self.output_stride != 32:
            self._require_residual("output_stride", self.output_stride, "32")
        return self

    def _require_residual(self, option: str, value: int, otherwise: str) -> None:
        if self.image_encoder in ("transformer", "other"):
            raise ValueError(
                f"{option}: {value} with model {self.model}; needed {otherwise}, or"
                f" {ENCODERS['residual']}"
            )

    @property
    def files(self) -> list[Path]:
        """The files that it is read from."""
        described = [Path(self.model)] if self.model.endswith(".json") else []
        return described + ([self.weights] if self.weights is not None else [])

    @property
    def image_encoder(self) -> ImageEncoder | None:
        """The kind of its image encoder; None where its description cannot be read."""
        if self.model.endswith(".json"):
            vision = _described(self.model).get("vision_cfg")
            if not isinstance(vision, dict):
                return None
            return "residual" if isinstance(vision.get("layers"), list) else "transformer"
        if re.match(r"RN\d", self.model):
            return "residual"
        return "transformer" if self._patch_in_name else "other"

    @property
    def tokenizer_files(self) -> list[Path]:
        """The files of it that are read to predict, too: what words it knows."""
        return [Path(self.model)] if self.model.endswith(".json") else []

    @property
    def patch(self) -> int | None:
        """Pixels of a side of a vision transformer's patch; None for any other encoder."""
        if self.image_encoder != "transformer":
            return None
        if self.model.endswith(".json"):
            return int(_described(self.model)["vision_cfg"].get("patch_size", 16))
        return self._patch_in_name

    @property
    def _patch_in_name(self) -> int | None:
        match = re.match(r"ViT-[A-Za-z]+[-/](\d+)", self.model)
        return int(match[1]) if match and "SigLIP" not in self.model else None


class JudgeSource(ClipSource):
    """A CLIP that judges what response maps keep of an image."""

    # Side of the square that it sees, in pixels; None: as it was trained. Of residual CLIPs only.
    image_size: Positive | None = None

    @model_validator(mode="after")
    def _require_a_size_that_can_be(self) -> "JudgeSource":
        if self.image_size is None:
            return self
        self._require_residual("image_size", self.image_size, "null")
        stride = self.output_stride
        require_least("image_size", self.image_size, stride, f"one cell of {stride} pixels")
        return self


def _described(model: str) -> dict[str, Any]:
    """The content of a description; nothing where it cannot be read, which the step tells."""
    try:
        content = json.loads(Path(model).read_text())
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


class WithClip(Section):
    """What names a CLIP, or a judge: what is not given of it is completed from the default."""

    @field_validator("clip", "judge", mode="before", check_fields=False)
    @classmethod
    def _complete(cls, given: Any, info: ValidationInfo) -> Any:
        default = cls.model_fields[str(info.field_name)].default
        if not isinstance(given, dict) or not isinstance(default, ClipSource):
            return given
        if given.get("model", default.model) != default.model:
            return given
        kept = default.model_dump(mode="json")  # options may come as JSON
        if given.get("pretrained", default.pretrained) != default.pretrained:
            del kept["weights"]
        return {**kept, **given}


def require_image_encoder(clip: ClipSource, *taken: ImageEncoder) -> None:
    """Raise ValueError for a CLIP whose image encoder is of no kind that is taken."""
    encoder = clip.image_encoder
    if encoder is not None and encoder not in taken:
        needed = " or ".join(ENCODERS[kind] for kind in taken)
        about = "" if encoder == "other" else f", {ENCODERS[encoder].partition(' (')[0]}"
        raise ValueError(f"clip.model: {clip.model}{about}; needed {needed}")


def require_two_cells(image_size: int, clip: ClipSource) -> None:
    """Raise ValueError for what does not have cells of which norms over an image can be taken."""
    require_image_encoder(clip, "residual")
    stride = clip.output_stride
    require_least("image_size", image_size, 2 * stride, f"two cells of {stride} pixels")


class DinoSource(Section):
    """A DINOv2 with registers: timm's name of it, or a small one of no published weights."""

    model: Literal[
        "vit_base_patch14_reg4_dinov2",
        "vit_large_patch14_reg4_dinov2",
        "tiny",
        "mini",
    ] = "vit_base_patch14_reg4_dinov2"
    weights: File | None = None  # Meta's dinov2_vit*14_reg4_pretrain.pth; None: random weights

    @property
    def patch(self) -> int:
        """Pixels of a side of a patch."""
        return 8 if self.model in ("tiny", "mini") else 14

    @property
    def files(self) -> list[Path]:
        """The files that it is read from."""
        return [self.weights] if self.weights is not None else []

    def without_weights(self) -> "DinoSource":
        """The same with random weights."""
        return self.model_copy(update={"weights": None})
