"""Annotation sources: their objects, before they are checked.

A reader yields an `Entry` for each object, in the order of the file, and a `Finding` for each row
that is wrong; it raises InputError for a file of another format. It spools large data in the folder
`scratch`. A new source format is one more reader in `READERS`.
"""

from collections.abc import Callable, Iterator, Mapping
from io import BytesIO
from pathlib import Path, PurePosixPath
from typing import Any

from stages.config.datasets import DatasetConfig
from stages.data.entries import Entry, Expression, Finding, has_controls
from stages.data.lmdb_file import read_lmdb
from stages.data.own_table import read_table
from stages.data.refer import Instances, open_instances, read_refs
from stages.data.referit import read_referit
from stages.runtime.errors import InputError
from stages.storage.files import replacing

Entries = Iterator[Entry | Finding]


def read_source(config: DatasetConfig, scratch: Path) -> Entries:
    """The entries of any source."""
    if config.annotations is None:
        raise InputError("annotations: not given; needed the folder or file of the annotations")
    return READERS[config.source](config, config.annotations, scratch)


def _read_refer(config: DatasetConfig, folder: Path, scratch: Path) -> Entries:
    """RefCOCO, RefCOCO+, RefCOCOg, RefClef: one annotation for each ref."""
    refs = _existing(folder / f"refs({config.split_by}).p", "split_by", config.split_by)
    yield from _read_refs(refs, _image_folder(config, folder), scratch)


def _read_grefcoco(config: DatasetConfig, folder: Path, scratch: Path) -> Entries:
    """gRefCOCO: a list of annotations for each ref, [-1] for a ref without a target."""
    names = [folder / f"grefs({config.split_by}).{ending}" for ending in ("json", "p")]
    refs = next((path for path in names if path.exists()), names[0])
    _existing(refs, "split_by", config.split_by)
    yield from _read_refs(refs, _image_folder(config, folder), scratch)


def _read_refshapes(config: DatasetConfig, folder: Path, scratch: Path) -> Entries:
    """The output of make_refshapes."""
    name = "grefs(unc).json" if config.refshapes.generalized else "refs(unc).p"
    refs = _existing(folder / name, "refshapes.generalized", config.refshapes.generalized)
    yield from _read_refs(refs, folder / "images", scratch)


def _read_lmdb(config: DatasetConfig, folder: Path, scratch: Path) -> Entries:
    """The CRIS family's <split>.lmdb; images that `images` does not have are written there."""
    files = sorted(folder.glob("*.lmdb"))
    if not files:
        raise InputError(f"{folder}: no .lmdb in it; needed train.lmdb, val.lmdb, ...")
    if config.images is None:
        raise InputError("images: not given; needed a folder for the images of the LMDB files")
    for path in files:
        for number, record in enumerate(read_lmdb(path)):
            place = f"{path}: record {number}"
            try:
                image = _kept_image(config.images, record)
            except ValueError as error:
                yield Finding(place, str(error))
                continue
            yield Entry(
                place=place,
                name=str(record.get("seg_id", number)),
                image=image,
                split=path.stem,
                expressions=[Expression(text) for text in record["sents"]],
                places=[f"{place}, sentence {n}" for n in range(len(record["sents"]))],
                mask_file=BytesIO(record["mask"]),
            )


def _kept_image(folder: Path, record: Mapping[str, Any]) -> Path:
    """The image of a record as a file in the folder, in the subfolders that its name has.

    Raises ValueError for a name that leads out of the folder, and where another image is there.
    """
    name = PurePosixPath(record["img_name"])
    if name.is_absolute() or ".." in name.parts or not name.name or has_controls(str(name)):
        raise ValueError(f"img_name {record['img_name']!r}; needed a name within the folder images")
    image = folder / name
    if not image.exists():
        with replacing(image) as temporary:
            temporary.write_bytes(record["img"])
    elif not image.is_file() or image.read_bytes() != record["img"]:
        raise ValueError(f"{image} is there and is another image; needed another folder images")
    return image


def _existing(path: Path, option: str, value: object) -> Path:
    if not path.exists():
        raise InputError(f"{path}: no such file; needed for {option}: {value}")
    return path


def _image_folder(config: DatasetConfig, annotations: Path) -> Path:
    folder = config.images or (annotations if annotations.is_dir() else annotations.parent)
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; needed the folder of the images (images:)")
    return folder


def _read_refs(path: Path, images: Path, scratch: Path) -> Entries:
    known: set[Any] = set()
    with open_instances(path.parent / "instances.json", scratch) as instances:
        for row, ref in enumerate(read_refs(path)):
            place = f"{path}: ref {ref.get('ref_id', f'in row {row}')}"
            try:
                if ref["ref_id"] in known:
                    yield Finding(place, "its ref_id appears before; needed each ref_id once")
                    continue
                known.add(ref["ref_id"])
                entry = _ref_entry(ref, place, images, instances)
            except KeyError as error:
                message = f"nothing under {error}; needed in the ref or in instances.json"
                yield Finding(place, message)
            except (TypeError, ValueError, AttributeError) as error:
                yield Finding(place, f"{error}; needed a ref as REFER has it")
            else:
                yield entry


def _ref_entry(ref: dict[str, Any], place: str, images: Path, instances: Instances) -> Entry:
    image = instances.images[ref["image_id"]]
    is_group = isinstance(ref["ann_id"], list)
    numbers = ref["ann_id"] if is_group else [ref["ann_id"]]
    if not numbers:
        raise ValueError("ann_id is empty; needed [-1] for a ref without a target")
    no_target = numbers == [-1]
    if ref.get("no_target", no_target) not in (no_target, None):
        raise ValueError(f"no_target is {ref['no_target']!r} and ann_id {numbers}")
    annotations = [] if no_target else [instances.annotations[number] for number in numbers]
    if is_group:  # ReLA's official reader drops crowds from a group
        annotations = [row for row in annotations if not row.get("iscrowd", 0)]
    if not annotations and not no_target:
        raise ValueError("only crowd annotations")
    strays = [row["id"] for row in annotations if row["image_id"] != ref["image_id"]]
    if strays:
        raise ValueError(f"annotation {strays[0]} is of another image")
    names = {instances.categories[row["category_id"]] for row in annotations}
    sentences = ref["sentences"]
    return Entry(
        place=place,
        name=str(ref["ref_id"]),
        image=images / image["file_name"],
        split=str(ref["split"]),
        expressions=[Expression(s["sent"], s.get("kind"), s.get("raw")) for s in sentences],
        places=[f"{place}, sentence {s.get('sent_id', n)}" for n, s in enumerate(sentences)],
        category=names.pop() if len(names) == 1 else None,
        boxes=[[float(value) for value in row["bbox"]] for row in annotations],
        segmentations=[row["segmentation"] for row in annotations],
        size=(int(image["width"]), int(image["height"])),
        no_target=no_target,
    )


def _read_table(config: DatasetConfig, path: Path, scratch: Path) -> Entries:
    """A user's own CSV, JSONL or Parquet file: a row for each expression."""
    yield from read_table(path, _image_folder(config, path), scratch)


def _read_referit(config: DatasetConfig, folder: Path, scratch: Path) -> Entries:
    """ReferIt as TRIS publishes it."""
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; needed that of train.pickle and test.pickle")
    yield from read_referit(folder, _image_folder(config, folder))


READERS: dict[str, Callable[[DatasetConfig, Path, Path], Entries]] = {
    "refer": _read_refer,
    "grefcoco": _read_grefcoco,
    "refshapes": _read_refshapes,
    "referit": _read_referit,
    "lmdb": _read_lmdb,
    "table": _read_table,
}
