"""The files of a prediction: the mask, the mask over the image, and a JSON record."""

import hashlib
import re
from pathlib import Path
from typing import Any

from PIL import Image

from stages.inference.inference import ExpressionPrediction
from stages.reporting.overlay import mask_image, mask_overlay
from stages.storage.files import replacing, write_json
from stages.storage.masks import encode

NAME_LENGTH = 40  # characters of each part of a file name


def write_prediction(
    folder: Path,
    source: Path,
    image: Image.Image,
    text: str,
    model: Path,
    prediction: ExpressionPrediction,
) -> dict[str, Any]:
    """Write three files in `folder`, and return the JSON record.

    Their common name ends in a digest of the paths of image and model and of the expression: two
    predictions never share a file, and the same command writes the same files.
    """
    name = _name(source, text, model)
    mask, overlay, path = (folder / f"{name}.{end}" for end in ("mask.png", "overlay.png", "json"))
    with replacing(mask) as temporary:
        mask_image(prediction.mask).save(temporary)
    with replacing(overlay) as temporary:
        mask_overlay(image, prediction.mask).save(temporary)
    record = {
        "image": str(source),
        "expression": text,
        "model": str(model),
        "score": prediction.score,
        "peak": list(prediction.peak),
        "area": float(prediction.mask.mean()),
        "no_target": prediction.no_target,
        "segmentation": {
            "size": [image.height, image.width],
            "counts": encode(prediction.mask),
        },
        "files": {"mask": str(mask), "overlay": str(overlay), "json": str(path)},
    }
    write_json(path, record)
    return record


def _name(source: Path, text: str, model: Path) -> str:
    whole = "\0".join([str(source.resolve()), text, str(model.resolve())])
    digest = hashlib.sha256(whole.encode(errors="surrogateescape")).hexdigest()[:12]
    return "-".join(filter(None, (_plain(source.stem), _plain(text), digest)))


def _plain(text: str) -> str:
    """Only letters, digits and underscores, which every file system accepts."""
    return re.sub(r"[^A-Za-z0-9]+", "_", text)[:NAME_LENGTH].strip("_")
