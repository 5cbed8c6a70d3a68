"""Options in the headers of model files that older versions wrote, as they are called now.

Version 0.1 kept the CLIP of a model beside its options, and in them how it was trained to be
computed (workers, save_every).
"""

from typing import Any

EXECUTION = ("workers", "save_every")
RENAMED = {"clip_norm": "max_grad_norm"}


def training_options(given: dict[str, Any]) -> dict[str, Any]:
    """The options of a training under the names of this version."""
    return {
        RENAMED.get(name, name): value for name, value in given.items() if name not in EXECUTION
    }


def options_with_clip(given: dict[str, Any], clip: dict[str, Any] | None) -> dict[str, Any]:
    """The options of a model, with the CLIP that version 0.1 wrote apart from them if it did.

    ReLA with BERT reads none; TRIS had the stride of its CLIP among its own options.
    """
    options = training_options(given)
    if clip is None:
        return options
    if "output_stride" in options:
        clip = {**clip, "output_stride": options.pop("output_stride")}
    return options if options.get("text") == "bert" else {**options, "clip": clip}
