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


def load(path: str | PathLike[str], device: Literal["auto", "cpu", "cuda"] = "auto") -> Model:
    """The model of a file that a training step or `risflow import` wrote, ready to predict.

    `auto` is the first GPU if there is one. Raises InputError (a ValueError) for a file that holds
    something else, FileNotFoundError for none.
    """
    from pathlib import Path  # torch and its friends are imported with the first model

    from risflow.predict.model import Model

    return Model(Path(path), device)
