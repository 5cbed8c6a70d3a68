"""The files that an answer becomes: its mask, a picture of it, and the same as JSON."""

import hashlib
import re
from pathlib import Path
from typing import Any

from PIL import Image

from risflow.predict.images import overlay, shape_of
from stages.inference.inference import Answer
from stages.storage.files import replacing, write_json
from stages.storage.masks import encode

NAME_LENGTH = 40  # characters of each part of a file name


def write_answer(
    folder: Path, source: Path, image: Image.Image, text: str, model: Path, answer: Answer
) -> dict[str, Any]:
    """Three files in `folder`; returns what the JSON says.

    Their common name ends in a digest of picture, expression and model, by their full paths: two
    answers never share a file, and the same command writes the same files.
    """
    name = _name(source, text, model)
    mask, shown, record = (folder / f"{name}.{end}" for end in ("mask.png", "overlay.png", "json"))
    with replacing(mask) as temporary:
        shape_of(answer.mask).save(temporary)
    with replacing(shown) as temporary:
        overlay(image, answer.mask).save(temporary)
    said = {
        "image": str(source),
        "expression": text,
        "model": str(model),
        "score": answer.score,
        "peak": list(answer.peak),
        "share": float(answer.mask.mean()),
        "no_target": answer.no_target,
        "segmentation": {
            "size": [image.height, image.width],
            "counts": encode(answer.mask),
        },
        "files": {"mask": str(mask), "overlay": str(shown), "json": str(record)},
    }
    write_json(record, said)
    return said


def _name(source: Path, text: str, model: Path) -> str:
    whole = "\0".join([str(source.resolve()), text, str(model.resolve())])
    digest = hashlib.sha256(whole.encode(errors="surrogateescape")).hexdigest()[:12]
    return "-".join(part for part in (_plain(source.stem), _plain(text), digest) if part)


def _plain(text: str) -> str:
    """Letters and digits that every file system takes."""
    return re.sub(r"[^A-Za-z0-9]+", "_", text)[:NAME_LENGTH].strip("_")
