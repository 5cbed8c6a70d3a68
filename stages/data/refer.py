"""REFER's annotation files: refs(<split_by>).p or grefs(<split_by>).json, and instances.json.

The refs of RefCOCO, RefCOCO+, RefCOCOg and ReferIt are pickles. They are read by an unpickler that
can make numbers, texts and plain containers and nothing else, so a hostile file runs nothing.

Follows the official reader (TRIS dataset/refer.py) with one departure: a pixel inside two polygons
of one object belongs to the object, as in COCO's own masks. The official code counts such pixels
as background (`getMask` and `ReferDataset.__getitem__`); `overlap: official` does the same.
"""

import io
import json
import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pycocotools import mask as coco

from stages.core.errors import InputError
from stages.core.masks import Mask

Overlap = Literal["union", "official"]
LEAST_COORDINATES = 6  # of a polygon: three corners
# Containers that pickles build by name; python 2 calls the module __builtin__.
CONTAINERS = {
    (module, kind.__name__): kind
    for module in ("builtins", "__builtin__")
    for kind in (set, frozenset, bytearray)
}


@dataclass(frozen=True)
class Instances:
    """Images, annotations and category names by their ids."""

    images: dict[int, dict[str, Any]]
    annotations: dict[int, dict[str, Any]]
    categories: dict[int, str]


class _PlainUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in CONTAINERS:
            return CONTAINERS[module, name]
        raise pickle.UnpicklingError(f"it asks for {module}.{name}")


def load_plain(content: bytes) -> Any:
    """What a pickle of plain containers holds. May raise any exception if it is something else."""
    # latin1: python 2 wrote texts as bytes.
    return _PlainUnpickler(io.BytesIO(content), encoding="latin1").load()


def read_refs(path: Path) -> list[dict[str, Any]]:
    """The refs in a file: restricted pickle (.p) or JSON. Raises InputError for anything else."""
    content = path.read_bytes()
    try:
        refs = json.loads(content) if path.suffix == ".json" else load_plain(content)
    except Exception as error:  # a damaged pickle can raise any exception
        raise InputError(
            f"{path}: cannot be read ({error}); needed REFER's list of refs, in plain containers"
        ) from None
    if not isinstance(refs, list) or not all(isinstance(ref, dict) for ref in refs):
        raise InputError(f"{path}: holds {type(refs).__name__}; needed REFER's list of refs")
    return refs


def read_instances(path: Path) -> Instances:
    """COCO-style instances.json. Raises InputError for missing parts and for repeated ids."""
    names = ("images", "annotations", "categories")
    try:
        content = json.loads(path.read_bytes())
        parts = [content[name] for name in names]
        tables = [{entry["id"]: entry for entry in part} for part in parts]
        categories = {entry["id"]: str(entry["name"]) for entry in parts[2]}
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{path}: cannot be read ({type(error).__name__}: {error}); "
            "needed images, annotations and categories with ids"
        ) from None
    for name, part, table in zip(names, parts, tables, strict=True):
        if len(table) < len(part):
            repeated = len(part) - len(table)
            raise InputError(f"{path}: {repeated} repeated ids in {name}; needed each id once")
    images, annotations, _ = tables
    return Instances(images, annotations, categories)


def segmentation_mask(
    segmentation: Any, height: int, width: int, overlap: Overlap = "union"
) -> Mask:
    """The mask (height, width) of COCO polygons, of run lengths (compressed or not), or a list.

    `overlap: official` leaves out the pixels that lie in more than one of the polygons.
    Raises ValueError if it is none of these or of another size.
    """
    try:
        parts = [segmentation] if isinstance(segmentation, dict) else list(segmentation)
        if not all(isinstance(part, dict | list) for part in parts):
            raise TypeError(f"found {segmentation!r}")
        parts = [p for p in parts if isinstance(p, dict) or len(p) >= LEAST_COORDINATES]
        if not parts:
            return np.zeros((height, width), dtype=bool)
        run_lengths = [_run_lengths(part, height, width) for part in parts]
        layers = coco.decode(run_lengths)  # (height, width, parts)
    except Exception as error:  # pycocotools raises bare Exceptions
        raise ValueError(f"no COCO segmentation ({error})") from None
    if layers.shape[:2] != (height, width):
        raise ValueError(f"of {layers.shape[1]} x {layers.shape[0]} pixels")
    count = layers.sum(axis=2)
    return (count == 1) if overlap == "official" else (count > 0)


def _run_lengths(part: Any, height: int, width: int) -> dict[str, Any]:
    """COCO's compressed run lengths of a polygon or of run lengths of either kind."""
    if not isinstance(part, dict):
        return coco.frPyObjects([part], height, width)[0]
    if isinstance(part["counts"], str | bytes):
        return part
    return coco.frPyObjects([part], *part["size"])[0]
