"""Annotation sources: what is written in them, object by object, before it is checked.

A reader goes through its files and gives an `Entry` for each object, in the file's order. What is
wrong with a single row it adds to the findings and goes on; a file that is no such source at all is
an InputError. A new source format is one more reader in `READERS`.
"""

import csv
import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa

from stages.core.config import DatasetConfig
from stages.core.errors import InputError
from stages.core.files import replacing
from stages.data.lmdb_file import read_lmdb
from stages.data.refer import Instances, read_instances, read_refs

REQUIRED = ("image", "expression")
COLUMNS = (*REQUIRED, "split", "object", "mask")


@dataclass
class Entry:
    """One object as the source has it."""

    place: str  # where in the source, for messages
    name: str
    image: Path
    split: str
    expressions: list[tuple[str, str | None]]  # text and kind
    places: list[str]  # of the expressions
    category: str | None = None
    boxes: list[list[float]] | None = None
    segmentations: list[Any] | None = None  # COCO's; their union is the mask
    mask_file: Path | BytesIO | None = None  # or a picture whose pixels above zero are the mask
    size: tuple[int, int] | None = None  # width and height that the source gives the image
    no_target: bool = False


@dataclass
class Findings:
    """What is wrong with rows: the place, what was found and what is needed."""

    lines: list[str] = field(default_factory=list)

    def add(self, place: str, found: str) -> None:
        self.lines.append(f"{place}: {found}")


def read_source(config: DatasetConfig, findings: Findings) -> Iterator[Entry]:
    """The entries of any source."""
    if config.annotations is None:
        raise InputError("annotations: not given; needed the folder or file of the annotations")
    return READERS[config.source](config, config.annotations, findings)


def _read_refer(config: DatasetConfig, folder: Path, findings: Findings) -> Iterator[Entry]:
    """RefCOCO, RefCOCO+, RefCOCOg, ReferIt: one annotation for each ref."""
    refs = _existing(folder / f"refs({config.split_by}).p", "split_by", config.split_by)
    yield from _read_refs(refs, _image_folder(config, folder), findings)


def _read_grefcoco(config: DatasetConfig, folder: Path, findings: Findings) -> Iterator[Entry]:
    """gRefCOCO: a list of annotations for each ref, [-1] for a ref to nothing."""
    names = [folder / f"grefs({config.split_by}).{ending}" for ending in ("json", "p")]
    refs = next((path for path in names if path.exists()), names[0])
    _existing(refs, "split_by", config.split_by)
    yield from _read_refs(refs, _image_folder(config, folder), findings)


def _read_refshapes(config: DatasetConfig, folder: Path, findings: Findings) -> Iterator[Entry]:
    """What make_refshapes wrote."""
    name = "grefs(unc).json" if config.refshapes.generalized else "refs(unc).p"
    refs = _existing(folder / name, "refshapes.generalized", config.refshapes.generalized)
    yield from _read_refs(refs, folder / "images", findings)


def _read_lmdb(config: DatasetConfig, folder: Path, findings: Findings) -> Iterator[Entry]:
    """The CRIS family's <split>.lmdb; pictures that `images` does not have are written there."""
    files = sorted(folder.glob("*.lmdb"))
    if not files:
        raise InputError(f"{folder}: no .lmdb in it; needed train.lmdb, val.lmdb, ...")
    if config.images is None:
        raise InputError("images: not given; needed a folder for the pictures of the LMDB files")
    for path in files:
        for number, record in enumerate(read_lmdb(path)):
            place = f"{path}: record {number}"
            name = Path(record["img_name"]).name
            image = config.images / name
            if not image.exists():
                with replacing(image) as temporary:
                    temporary.write_bytes(record["img"])
            yield Entry(
                place=place,
                name=str(record.get("seg_id", number)),
                image=image,
                split=path.stem,
                expressions=[(text, None) for text in record["sents"]],
                places=[f"{place}, sentence {n}" for n in range(len(record["sents"]))],
                mask_file=BytesIO(record["mask"]),
            )


def _existing(path: Path, option: str, value: object) -> Path:
    if not path.exists():
        raise InputError(f"{path}: no such file; needed for {option}: {value}")
    return path


def _image_folder(config: DatasetConfig, annotations: Path) -> Path:
    folder = config.images or (annotations if annotations.is_dir() else annotations.parent)
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; needed the folder of the images (images:)")
    return folder


def _read_refs(path: Path, images: Path, findings: Findings) -> Iterator[Entry]:
    instances = read_instances(path.parent / "instances.json")
    known: set[Any] = set()
    for row, ref in enumerate(read_refs(path)):
        place = f"{path}: ref {ref.get('ref_id', f'in row {row}')}"
        try:
            if ref["ref_id"] in known:
                findings.add(place, "its ref_id appears before; needed each ref_id once")
                continue
            known.add(ref["ref_id"])
            yield _ref_entry(ref, place, images, instances)
        except KeyError as error:
            findings.add(place, f"nothing under {error}; needed in the ref or in instances.json")
        except (TypeError, ValueError, AttributeError) as error:
            findings.add(place, f"{error}; needed a ref as REFER has it")


def _ref_entry(ref: dict[str, Any], place: str, images: Path, instances: Instances) -> Entry:
    image = instances.images[ref["image_id"]]
    is_group = isinstance(ref["ann_id"], list)
    numbers = ref["ann_id"] if is_group else [ref["ann_id"]]
    no_target = bool(ref.get("no_target", False)) or numbers == [-1]
    annotations = [] if no_target else [instances.annotations[number] for number in numbers]
    if is_group:  # ReLA's official reader leaves crowds out of a group
        annotations = [one for one in annotations if not one.get("iscrowd", 0)]
    if not annotations and not no_target:
        raise ValueError("only crowd annotations")
    strays = [one["id"] for one in annotations if one["image_id"] != ref["image_id"]]
    if strays:
        raise ValueError(f"annotation {strays[0]} is of another image")
    names = {instances.categories[one["category_id"]] for one in annotations}
    sentences = ref["sentences"]
    return Entry(
        place=place,
        name=str(ref["ref_id"]),
        image=images / image["file_name"],
        split=str(ref["split"]),
        expressions=[(one["sent"], one.get("kind")) for one in sentences],
        places=[f"{place}, sentence {one.get('sent_id', n)}" for n, one in enumerate(sentences)],
        category=names.pop() if len(names) == 1 else None,
        boxes=[[float(value) for value in one["bbox"]] for one in annotations],
        segmentations=[one["segmentation"] for one in annotations],
        size=(int(image["width"]), int(image["height"])),
        no_target=no_target,
    )


def _read_table(config: DatasetConfig, path: Path, findings: Findings) -> Iterator[Entry]:
    """A user's own CSV, JSONL or Parquet file: a row for each expression.

    Rows of one image with the same `object` are one object; without that column, rows with the
    same `mask`; without both, each row is an object. Without `split`, all is `train`.
    """
    images = _image_folder(config, path)
    entries: dict[tuple[str, str], Entry] = {}
    for number, (place, row) in enumerate(read_rows(path, findings)):
        unknown = [name for name in REQUIRED if not isinstance(row.get(name), str)]
        if unknown:
            findings.add(place, f"no {unknown[0]}; needed a text in each row")
            continue
        image, mask, split = row["image"].strip(), _text(row.get("mask")), _text(row.get("split"))
        name = _text(row.get("object")) or mask or f"row {number}"
        entry = entries.get((image, name))
        if entry is None:
            entry = entries[image, name] = Entry(
                place=place,
                name=name,
                image=images / image,
                split=split or "train",
                expressions=[],
                places=[],
                mask_file=images / mask if mask else None,
            )
        same = (entry.split, entry.mask_file) == (split or "train", images / mask if mask else None)
        if not same:
            findings.add(place, f"split or mask differs from {entry.place}, the same object")
            continue
        if row["expression"] in (text for text, _ in entry.expressions):
            findings.add(place, "repeats an expression of its object; needed each once")
            continue
        entry.expressions.append((row["expression"], None))
        entry.places.append(place)
    yield from entries.values()


def _text(value: object) -> str | None:
    """A cell as text; None if it is empty."""
    if value is None or value != value:  # a missing cell of a Parquet file can be nan
        return None
    return str(value).strip() or None


def read_rows(path: Path, findings: Findings) -> Iterable[tuple[str, dict[str, Any]]]:
    """Each row of the table with its place; a row is a mapping of column names."""
    if not path.is_file():
        raise InputError(f"{path}: no such file; needed a .csv, .jsonl or .parquet table")
    if path.suffix not in TABLES:
        raise InputError(f"{path}: ends in {path.suffix!r}; needed .csv, .jsonl or .parquet")
    try:
        return TABLES[path.suffix](path, findings)
    except (UnicodeDecodeError, OSError, csv.Error, pa.ArrowException) as error:
        needed = "a Parquet table" if path.suffix == ".parquet" else "UTF-8 text"
        raise InputError(f"{path}: cannot be read ({error}); needed {needed}") from None


def _check_columns(path: Path, columns: Iterable[str]) -> None:
    absent = [name for name in REQUIRED if name not in columns]
    if absent:
        raise InputError(
            f"{path}: no column {absent[0]!r} among {', '.join(columns) or 'none'}; "
            f"needed {' and '.join(REQUIRED)}, and known are {', '.join(COLUMNS[2:])}"
        )


def _csv_rows(path: Path, findings: Findings) -> list[tuple[str, dict[str, Any]]]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.DictReader(file)
        _check_columns(path, reader.fieldnames or ())
        rows = []
        for row in reader:
            place = f"{path}:{reader.line_num}"
            if None in row:
                findings.add(place, "more cells than columns; quote expressions that hold a comma")
            else:
                rows.append((place, row))
        return rows


def _jsonl_rows(path: Path, findings: Findings) -> list[tuple[str, dict[str, Any]]]:
    rows = []
    for number, line in enumerate(path.read_text(encoding="utf-8-sig").split("\n"), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError:
            row = None
        if isinstance(row, dict):
            rows.append((f"{path}:{number}", row))
        else:
            findings.add(f"{path}:{number}", "no JSON object; needed one in each line")
    return rows


def _parquet_rows(path: Path, findings: Findings) -> list[tuple[str, dict[str, Any]]]:
    table = pd.read_parquet(path)
    _check_columns(path, [str(name) for name in table.columns])
    records = table.to_dict(orient="records")
    return [(f"{path}: row {n}", {str(k): v for k, v in r.items()}) for n, r in enumerate(records)]


TABLES: dict[str, Callable[[Path, Findings], list[tuple[str, dict[str, Any]]]]] = {
    ".csv": _csv_rows,
    ".jsonl": _jsonl_rows,
    ".parquet": _parquet_rows,
}
READERS: dict[str, Callable[[DatasetConfig, Path, Findings], Iterator[Entry]]] = {
    "refer": _read_refer,
    "grefcoco": _read_grefcoco,
    "refshapes": _read_refshapes,
    "lmdb": _read_lmdb,
    "table": _read_table,
}
