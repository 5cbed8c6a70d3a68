"""The files of a prediction: the mask, the mask over the image, and a JSON record."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from stages.inference.inference import ExpressionPrediction
from stages.reporting.overlay import heat_map, mask_image, mask_overlay
from stages.storage.files import plain_name, replacing, write_json
from stages.storage.masks import encode


def write_prediction(
    folder: Path,
    source: Path,
    image: Image.Image,
    text: str,
    model: Path,
    prediction: ExpressionPrediction,
    unknown_words: Sequence[str] = (),
    with_heat_map: bool = False,
) -> dict[str, Any]:
    """Write three files in `folder`, a heat map too if it is asked for; return the JSON record.

    Their common name ends in a digest of the paths of image and model and of the expression: two
    predictions never share a file, and the same command writes the same files.
    """
    name = _name(source, text, model)
    drawn = {
        "mask": mask_image(prediction.mask),
        "overlay": mask_overlay(image, prediction.mask),
    }
    if with_heat_map:
        drawn["heatmap"] = heat_map(image, prediction.map.numpy())
    files = {kind: folder / f"{name}.{kind}.png" for kind in drawn}
    for kind, file in files.items():
        with replacing(file) as temporary:
            drawn[kind].save(temporary)
    files["json"] = folder / f"{name}.json"
    record = {
        "image": str(source),
        "expression": text,
        "model": str(model),
        "score": prediction.score,
        "peak": list(prediction.peak),
        "area": float(prediction.mask.mean()),
        "no_target": prediction.no_target,
        "unknown_words": list(unknown_words),
        "segmentation": {
            "size": [image.height, image.width],
            "counts": encode(prediction.mask),
        },
        "files": {kind: str(file) for kind, file in files.items()},
    }
    write_json(files["json"], record)
    return record


def _name(source: Path, text: str, model: Path) -> str:
    whole = "\0".join([str(source.resolve()), text, str(model.resolve())])
    digest = hashlib.sha256(whole.encode(errors="surrogateescape")).hexdigest()[:12]
    return "-".join(filter(None, (plain_name(source.stem), plain_name(text), digest)))
