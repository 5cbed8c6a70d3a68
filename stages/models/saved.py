"""Models from their files: the header of a file says what model it holds and how it was made."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from pkgutil import resolve_name
from typing import Any, Generic, Protocol, TypeVar, runtime_checkable

from pydantic import ValidationError
from torch import Tensor, nn

from stages.config.findings import describe as explain
from stages.config.older_versions import options_with_clip
from stages.config.section import ResizeModeName, Section
from stages.config.segmentors import (
    AnySegmentor,
    CrisOptions,
    DetrisOptions,
    EtrisOptions,
    RelaOptions,
    TrisOptions,
)
from stages.config.steps import Stage1
from stages.models.tris import TrisStage1
from stages.runtime.errors import InputError
from stages.storage.matching import load_exactly
from stages.storage.weights import load_weights

# Options, and whether to begin with the published weights of the encoders.
Builder = Callable[[Any, bool], nn.Module]

# Of each kind of model: its options, and what builds it (module:function). Modules are imported
# when needed, since the libraries of some encoders take seconds to import.
STAGE1 = "tris_stage1"
MODELS: dict[str, tuple[type[Any], str]] = {
    STAGE1: (Stage1, "stages.models.tris:build_stage1"),
    "tris": (TrisOptions, "stages.models.tris:build_tris"),
    "cris": (CrisOptions, "stages.models.cris:build_cris"),
    "etris": (EtrisOptions, "stages.models.etris:build_etris"),
    "detris": (DetrisOptions, "stages.models.detris:build_detris"),
    "rela": (RelaOptions, "stages.models.rela:build_rela"),
}


class Predictor(Protocol):
    """Gives maps of expressions (T, S, S): a mask is where its map is positive."""

    resize_mode: ResizeModeName
    background_value: float  # of a map, where there is certainly no object

    def predict(self, batch: dict[str, Tensor]) -> Tensor: ...


@runtime_checkable
class GeneralizedPredictor(Predictor, Protocol):
    """Also says whether there is a target at all: scores (T,), positive where there is none."""

    def predict_generalized(self, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor]: ...


Model = TypeVar("Model", bound=nn.Module)


@dataclass(frozen=True)
class Saved(Generic[Model]):
    """A model, and what its input must be like."""

    model: Model
    config: Section  # a ClipSource for a CLIP as it is
    image_size: int


def build_segmentor(config: AnySegmentor, pretrained: bool = True) -> nn.Module:
    """A segmentor, with the published weights of its encoders if `pretrained`: to be trained."""
    return build(config.model, config, pretrained)


def build(kind: str, config: Section, pretrained: bool) -> nn.Module:
    """A model of any kind in MODELS."""
    builder: Builder = resolve_name(MODELS[kind][1])
    return builder(config, pretrained)


def describe(kind: str, config: Section) -> dict[str, str]:
    """What the header of a model file says."""
    return {"kind": kind, "config": config.model_dump_json()}


def load_model(path: Path) -> Saved[nn.Module]:
    """Any model that a training step wrote. Raises InputError for a file of another kind.

    What it names by a relative path (a small CLIP's description, a vocabulary) is looked for from
    here, then from the folders that `path` is in: models also work outside of their project.
    """
    state, about = load_weights(path)
    config = read_options(about, path)
    if config.clip is not None and config.clip.model.endswith(".json"):
        local = {"model": str(_located(Path(config.clip.model), path))}
        config = config.model_copy(update={"clip": config.clip.model_copy(update=local)})
    if isinstance(config, RelaOptions) and config.vocabulary is not None:
        vocabulary = _located(config.vocabulary, path)
        config = config.model_copy(update={"vocabulary": vocabulary})
    # The file holds the encoders' trained weights: the published ones are not read again.
    model = build(about["kind"], config, pretrained=False)
    load_exactly(model, state, path)
    return Saved(model, config, config.image_size)


def read_options(about: dict[str, str], path: Path) -> Stage1 | AnySegmentor:
    """The options in the header of a model file, also of version 0.1.

    Raises InputError, of `path`, for a file of another kind and for options that are none here.
    """
    kind = about.get("kind", "nothing")
    if kind not in MODELS:
        raise InputError(f"{path}: holds {kind}; needed one of {', '.join(MODELS)}")
    try:
        clip = json.loads(about["clip"]) if "clip" in about else None
        given = options_with_clip(json.loads(about.get("config", "")), clip)
        options: Stage1 | AnySegmentor = MODELS[kind][0].model_validate(given)
    except ValidationError as error:
        findings = "; ".join(explain(str(path), error))
        raise InputError(f"{findings}; made by another version: train it anew") from None
    except (ValueError, AttributeError, TypeError) as error:
        raise InputError(
            f"{path}: the options in its header cannot be read ({error}); train it anew"
        ) from None
    return options


def _located(name: Path, model: Path) -> Path:
    """A file from here, or from the nearest folder around the model that has it."""
    if name.is_file():
        return name
    # Also around a link, as in the cache of the Hugging Face hub.
    folders = (*model.absolute().parents, *model.resolve().parents)
    candidates = (folder / name for folder in folders)
    return next((path for path in candidates if path.is_file()), name)


def load_stage1(path: Path) -> Saved[TrisStage1]:
    """A trained stage 1. Raises InputError for a file of another kind."""
    saved = load_model(path)
    if not isinstance(saved.model, TrisStage1):
        raise InputError(f"{path}: holds a segmentor; needed the model of train_stage1")
    return Saved(saved.model, saved.config, saved.image_size)
