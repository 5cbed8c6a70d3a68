"""Models from their files: the header of a file says what model it holds and how it was made."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

from pydantic import BaseModel
from torch import Tensor, nn

from stages.backbones.clip import load_clip
from stages.backbones.weights import load_exactly
from stages.core import config as options
from stages.core.errors import InputError
from stages.models.tris import TrisSegmentor, TrisStage1
from stages.training.checkpoint import load_weights

STAGE1 = "tris_stage1"
MODELS: dict[str, tuple[type[Any], type[nn.Module]]] = {
    STAGE1: (options.Stage1, TrisStage1),
    "tris": (options.TrisSegmentor, TrisSegmentor),
}


class Predictor(Protocol):
    """Gives maps of expressions (T, S, S): a mask is where its map is positive."""

    def predict(self, batch: dict[str, Tensor]) -> Tensor: ...


Model = TypeVar("Model", bound=nn.Module)


@dataclass(frozen=True)
class Saved(Generic[Model]):
    """A model, and what its input must be like."""

    model: Model
    clip: options.ClipSource  # says how expressions become tokens
    image_size: int


def build_segmentor(config: options.TrisSegmentor, clip: options.ClipSource) -> nn.Module:
    """A segmentor with the backbone's published weights, to be trained."""
    _, model = MODELS[config.model]
    return model(config, load_clip(clip))


def describe(kind: str, config: BaseModel, clip: options.ClipSource) -> dict[str, str]:
    """What the header of a model file says."""
    return {"kind": kind, "config": config.model_dump_json(), "clip": clip.model_dump_json()}


def load_model(path: Path) -> Saved[nn.Module]:
    """Any model that a training step wrote. Raises InputError for a file of another kind."""
    state, about = load_weights(path)
    kind = about.get("kind", "nothing")
    if kind not in MODELS:
        raise InputError(f"{path}: holds {kind}; needed one of {', '.join(MODELS)}")
    section, architecture = MODELS[kind]
    config = section.model_validate_json(about["config"])
    source = options.ClipSource.model_validate_json(about["clip"])
    # The file holds the backbone's trained weights: the published ones are not read again.
    model = architecture(config, load_clip(source.model_copy(update={"weights": None})))
    load_exactly(model, state, path)
    return Saved(model, source, config.image_size)


def load_stage1(path: Path) -> Saved[TrisStage1]:
    """A trained stage 1. Raises InputError for a file of another kind."""
    saved = load_model(path)
    if not isinstance(saved.model, TrisStage1):
        raise InputError(f"{path}: holds a segmentor; needed the model of train_stage1")
    return Saved(saved.model, saved.clip, saved.image_size)
