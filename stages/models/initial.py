"""Weights that a training starts from: of one of our models, or of an official checkpoint."""

import logging
from pathlib import Path

from torch import nn

from stages.config.segmentors import AnySegmentor
from stages.config.selection import SelectedTraining, continuation_fault
from stages.config.steps import Stage1
from stages.models.official import read_official
from stages.models.saved import read_options
from stages.runtime.errors import InputError
from stages.runtime.file_kinds import SAFETENSORS, describe_file
from stages.storage.matching import load_exactly
from stages.storage.weights import load_about, load_weights

log = logging.getLogger(__name__)


def initial_weights(config: SelectedTraining, given: Path | None) -> Path | None:
    """The file that a training starts from: as given, else as its options say.

    Raises InputError where these name an experiment, whose file only the workflow knows.
    """
    path = given or config.initial_file
    if path is None and config.initialize is not None:
        raise InputError(
            f"initialize: {config.initialize} is the name of an experiment; needed the file of its"
            " model (--initialize), or a run by Snakemake"
        )
    return path


def start_from(path: Path, model: nn.Module, kind: str, config: SelectedTraining) -> None:
    """Give a model of a kind in MODELS the weights of a file.

    Raises InputError that names the first weights that differ, and where `first_epoch` does not
    continue the training of the file.
    """
    earlier, about = _options(path)
    if earlier is not None:
        load_exactly(model, load_weights(path)[0], f"{path} ({about})")
        fault = continuation_fault(config, earlier)
        if fault is not None:
            raise InputError(fault)
    else:
        load_exactly(model, read_official(path, kind), path)
    log.info("starts from the weights of %s", path)


def _options(path: Path) -> tuple[Stage1 | AnySegmentor | None, str]:
    """The options and the kind of one of our model files; None of any other file."""
    if not (describe_file(path) or "").startswith(SAFETENSORS):
        return None, ""
    about = load_about(path)
    return (read_options(about, path), about["kind"]) if "kind" in about else (None, "")
