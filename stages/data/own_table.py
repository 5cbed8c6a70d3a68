"""A user's own table of expressions: CSV, JSONL or Parquet, read row by row.

The rows of an object need not be neighbors: they are spooled on disk, so that a table can have any
size.
"""

import csv
import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from stages.data.entries import Entry, Expression, Finding
from stages.data.spool import Spool
from stages.runtime.errors import InputError

REQUIRED = ("image", "expression")
COLUMNS = (*REQUIRED, "split", "object", "mask")
READ_AHEAD = 1 << 20  # bytes of a Parquet column

Rows = Iterator[tuple[str, dict[str, Any]] | Finding]  # the place of a row, and its cells


def read_table(path: Path, images: Path, scratch: Path) -> Iterator[Entry | Finding]:
    """The objects of a table, in the order of their first rows; image names are in `images`.

    Rows of one image with the same `object` are one object; without that column, rows with the
    same `mask`; without both, each row is an object. Without `split`, all is `train`.
    """
    with Spool(scratch / "rows.sqlite") as spool:
        number = 0
        for row in read_rows(path):
            if isinstance(row, Finding):
                yield row
                continue
            place, cells = row
            unknown = [name for name in REQUIRED if not isinstance(cells.get(name), str)]
            if unknown:
                yield Finding(place, f"no {unknown[0]}; needed a text in each row")
            else:
                image, mask = cells["image"].strip(), _text(cells.get("mask"))
                split = _text(cells.get("split")) or "train"
                name = _text(cells.get("object")) or mask or f"row {number}"
                record = (place, image, name, split, mask, cells["expression"])
                spool.add((image, name), record)
            number += 1
        for rows in spool.groups():
            yield from _object(rows, images)


def _object(rows: list[list[Any]], images: Path) -> Iterator[Entry | Finding]:
    """The object of some rows, after the findings about them."""
    first, image, name, split, mask, _ = rows[0]
    places: dict[str, str] = {}
    for place, _, _, own_split, own_mask, expression in rows:
        if (own_split, own_mask) != (split, mask):
            yield Finding(place, f"split or mask differs from {first}, the same object")
        elif expression in places:
            yield Finding(place, "repeats an expression of its object; needed each once")
        else:
            places[expression] = place
    yield Entry(
        place=first,
        name=name,
        image=images / image,
        split=split,
        expressions=[Expression(text) for text in places],
        places=list(places.values()),
        mask_file=images / mask if mask else None,
    )


def _text(value: object) -> str | None:
    """A cell as text; None if it is empty."""
    if value is None or value != value:  # a missing cell of a Parquet file can be nan
        return None
    return str(value).strip() or None


def read_rows(path: Path) -> Rows:
    """Each row of the table with its place; a row is a mapping of column names."""
    if not path.is_file():
        raise InputError(f"{path}: no such file; needed a .csv, .jsonl or .parquet table")
    if path.suffix not in TABLES:
        raise InputError(f"{path}: ends in {path.suffix!r}; needed .csv, .jsonl or .parquet")
    try:
        yield from TABLES[path.suffix](path)
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


def _csv_rows(path: Path) -> Rows:
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.DictReader(file)
        _check_columns(path, reader.fieldnames or ())
        for row in reader:
            place = f"{path}:{reader.line_num}"
            if None in row:
                yield Finding(place, "more cells than columns; quote expressions that hold a comma")
            else:
                yield place, row


def _jsonl_rows(path: Path) -> Rows:
    with path.open(encoding="utf-8-sig", newline="\n") as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except (ValueError, RecursionError):
                row = None
            if isinstance(row, dict):
                yield f"{path}:{number}", row
            else:
                yield Finding(f"{path}:{number}", "no JSON object; needed one in each line")


def _parquet_rows(path: Path) -> Rows:
    with pq.ParquetFile(path, buffer_size=READ_AHEAD) as file:
        names = file.schema_arrow.names
        _check_columns(path, names)
        number = 0
        for batch in file.iter_batches(columns=[name for name in COLUMNS if name in names]):
            for row in batch.to_pylist():
                yield f"{path}: row {number}", row
                number += 1


TABLES: dict[str, Callable[[Path], Rows]] = {
    ".csv": _csv_rows,
    ".jsonl": _jsonl_rows,
    ".parquet": _parquet_rows,
}
