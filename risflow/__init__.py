"""risflow in Python: masks of what expressions say, by any model that the workflow trained.

import risflow

model = risflow.load("results/refshapes_tris/segmentor/model.safetensors")
prediction = model.predict("photo.jpg", ["the man on the right", "red cup"])
prediction.masks, prediction.scores
"""

from __future__ import annotations

from os import PathLike
from typing import TYPE_CHECKING, Literal

from stages.config.project_version import VERSION as __version__
from stages.runtime.errors import InputError

if TYPE_CHECKING:
    from risflow.predict.model import Model

__all__ = ["InputError", "__version__", "load"]


def load(
    path: str | PathLike[str],
    device: Literal["auto", "cpu", "cuda"] = "auto",
    precision: Literal["float32", "tf32", "bfloat16"] = "float32",
) -> Model:
    """The model of a file that a training step or `risflow import` wrote, ready to predict.

    It may be one of the Hugging Face hub: `hf:owner/name/model.safetensors`. `auto` is the first
    GPU if there is one; `precision` is that of the numbers. Raises InputError (a ValueError) for a
    file that holds something else, FileNotFoundError for none.
    """
    from pathlib import Path  # torch and its friends are imported with the first model

    from risflow.predict.model import Model
    from risflow.project.hub import local_file

    return Model(local_file(Path(path)), device, precision)
