"""REFER's annotation files: refs(<split_by>).p or grefs(<split_by>).json, and instances.json.

The refs of RefCOCO, RefCOCO+, RefCOCOg and ReferIt are pickles. They are read by an unpickler that
only makes numbers, texts and plain containers, so a hostile file cannot run code. A pickle must be
loaded as a whole; the JSON files are read piece by piece.
"""

import io
import pickle
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stages.data.json_stream import list_elements, named_lists
from stages.data.spool import Spool
from stages.runtime.errors import InputError
from stages.runtime.foreign_errors import unreadable

# Containers that pickles build by name; python 2 calls the module __builtin__.
CONTAINERS = {
    (module, kind.__name__): kind
    for module in ("builtins", "__builtin__")
    for kind in (set, frozenset, bytearray)
}


@dataclass(frozen=True)
class Instances:
    """Images, annotations and category names by their ids."""

    images: Spool
    annotations: Spool
    categories: dict[Any, str]


class _PlainUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in CONTAINERS:
            return CONTAINERS[module, name]
        raise pickle.UnpicklingError(f"it asks for {module}.{name}")


def load_plain(content: bytes) -> Any:
    """The content of a pickle of plain containers. May raise any exception for other pickles."""
    # latin1: python 2 wrote texts as bytes.
    return _PlainUnpickler(io.BytesIO(content), encoding="latin1").load()


def read_refs(path: Path) -> Iterator[dict[str, Any]]:
    """The refs in a file: a restricted pickle (.p), or JSON, which is read piece by piece.

    Raises InputError for anything else.
    """
    try:
        refs = list_elements(path) if path.suffix == ".json" else _unpickled_list(path)
        for ref in refs:
            if not isinstance(ref, dict):
                raise TypeError(f"holds {type(ref).__name__}")
            yield ref
    except Exception as error:  # a damaged pickle can raise any exception
        reason = unreadable(path, error)
        raise InputError(
            f"{path}: cannot be read ({reason}); needed REFER's list of refs, in plain containers"
        ) from None


def _unpickled_list(path: Path) -> list[Any]:
    refs = load_plain(path.read_bytes())
    if not isinstance(refs, list):
        raise TypeError(f"holds {type(refs).__name__}")
    return refs


@contextmanager
def open_instances(path: Path, scratch: Path) -> Iterator[Instances]:
    """COCO-style instances.json, spooled in the folder `scratch`.

    Raises InputError for missing parts and for repeated ids.
    """
    with Spool(scratch / "images.sqlite") as images, Spool(scratch / "shapes.sqlite") as shapes:
        instances = Instances(images, shapes, {})
        try:
            counts = _fill(instances, path)
            repeated = {
                "images": counts["images"] - images.num_keys,
                "annotations": counts["annotations"] - shapes.num_keys,
                "categories": counts["categories"] - len(instances.categories),
            }
        except InputError:  # of the spool, and a ValueError too
            raise
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise InputError(
                f"{path}: cannot be read ({type(error).__name__}: {error}); "
                "needed images, annotations and categories with ids"
            ) from None
        for name, count in repeated.items():
            if count:
                raise InputError(f"{path}: {count} repeated ids in {name}; needed each id once")
        yield instances


def _fill(instances: Instances, path: Path) -> dict[str, int]:
    """Fill the instances; returns the number of elements of each list."""
    counts: dict[str, int] = {}
    spools = {"images": instances.images, "annotations": instances.annotations}
    for name, entries in named_lists(path):
        counts[name] = 0
        for entry, text in entries:
            counts[name] += 1
            if name == "categories":
                instances.categories[entry["id"]] = str(entry["name"])
            elif name in spools:
                spools[name].add_text(entry["id"], text)
    return counts
