"""The rows of a user's own table: CSV, JSONL or Parquet, checked one by one.

The one place that decides which rows `prepare`, `predict --table` and `new-dataset` take. Nothing
is guessed: a row that is not clear is a finding with its place, and the others go on.
"""

import csv
import json
import logging
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from stages.data.columns import (
    PANDAS_INDEX,
    has_required,
    known_name,
    match_columns,
    unknown,
)
from stages.data.entries import Finding, expression_fault, has_controls, is_unicode, split_fault
from stages.runtime.errors import InputError
from stages.runtime.file_kinds import describe_file
from stages.runtime.foreign_errors import unreadable

READ_AHEAD = 1 << 20  # bytes of a Parquet column
SEPARATORS = ",;\t|"  # of a CSV file, in the order in which they are tried
DEFAULT_SPLIT = "train"

Cells = dict[str, Any]
Read = Iterator[tuple[str, Cells] | Finding]  # the place of a row and its cells

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Row:
    """One row that can be used."""

    place: str
    image: str
    expression: str
    split: str | None
    object: str | None
    mask: str | None


def read_rows(path: Path) -> Iterator[Row | Finding]:
    """Each row of the table, or what is wrong with it.

    Raises InputError for a file that is no table, and for columns that are not clear.
    """
    if not path.exists():
        raise InputError(f"{path}: no such file; needed {ENDINGS}")
    reader = TABLES.get(path.suffix.lower())
    if path.is_dir():
        raise InputError(f"{path}: a folder; needed {ENDINGS}")
    if reader is None:
        raise InputError(f"{path}: ends in {path.suffix!r}; needed {ENDINGS}")
    is_parquet = reader is _parquet_rows
    kind = describe_file(path)
    if not is_parquet and kind not in (None, "text", "an empty file"):
        raise InputError(f"{path}: it is {kind}; needed a table in UTF-8 text")
    try:
        for item in reader(path):
            yield item if isinstance(item, Finding) else _checked(*item)
    except InputError:
        raise
    except (UnicodeDecodeError, OSError, csv.Error, pa.ArrowException) as error:
        needed = "a Parquet table" if is_parquet else "UTF-8 text"
        reason = unreadable(path, error)
        raise InputError(f"{path}: cannot be read ({reason}); needed {needed}") from None


def _checked(place: str, cells: Cells) -> Row | Finding:
    """The row of some cells, or the first thing that is wrong with them."""
    try:
        texts = {name: _text(name, value) for name, value in cells.items()}
    except ValueError as error:
        return Finding(place, str(error))
    image, expression = texts.get("image"), texts.get("expression")
    if image is None and expression is None:
        return Finding(place, "image and expression are empty; needed both in each row")
    if image is None:
        return Finding(place, "image is empty; needed the name of a file")
    fault = own_expression_fault(expression)
    split = texts.get("split")
    if fault is None and split is not None:
        fault = split_fault(split)
    if fault is not None or expression is None:
        return Finding(place, fault or "empty expression")
    return Row(place, image, expression, split, texts.get("object"), texts.get("mask"))


def own_expression_fault(text: object) -> str | None:
    """Why a user's own expression cannot be used; stricter than for published annotations."""
    fault = expression_fault(text)
    if fault is None and isinstance(text, str):
        if has_controls(text):
            return (
                f"a line break, tab or control character in the expression {text[:40]!r};"
                " needed one line of text"
            )
        if not any(char.isalpha() for char in text):
            return f"no letter in the expression {text[:40]!r}; needed words"
    return fault


def _text(name: str, value: object) -> str | None:
    """A cell as text, None if it is empty; raises ValueError for a value of another type."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None  # a missing cell of a Parquet file can be nan
    if name == "expression" and isinstance(value, str):
        return value if value.strip() else None
    if name in ("split", "object") and _is_whole(value):
        return str(int(value))  # type: ignore[call-overload]
    if not isinstance(value, str):
        shown = repr(value)[:40]
        raise ValueError(f"{name}: {shown} ({type(value).__name__}); needed a text")
    text = value.strip()
    if not is_unicode(text):
        raise ValueError(f"half of a character (a lone surrogate) in {name}; needed text")
    if has_controls(text):
        raise ValueError(f"{name}: {text[:40]!r} has a control character; needed one line of text")
    return text or None


def _is_whole(value: object) -> bool:
    """Whether a value is a whole number; pandas writes those of a column with gaps as floats."""
    if isinstance(value, float):
        return value.is_integer()
    return isinstance(value, int) and not isinstance(value, bool)


def _csv_rows(path: Path) -> Read:
    """Line by line: no cell holds a line break, so that a quote left open spoils its line alone."""
    with path.open(encoding="utf-8-sig") as file:
        columns: list[str] | None = None
        separator = SEPARATORS[0]
        for number, line in enumerate(file, start=1):
            place, text = f"{path}:{number}", line.rstrip("\n")
            if not text.strip():
                continue
            if columns is None:
                separator, names = _header(place, text)
                columns = match_columns(path, names)
                continue
            cells = split_line(text, separator)
            if isinstance(cells, str):
                yield Finding(place, cells)
            elif len(cells) != len(columns):
                which = "more" if len(cells) > len(columns) else "fewer"
                yield Finding(
                    place,
                    f"{which} cells than columns ({len(cells)}, not {len(columns)}); quote"
                    f" expressions that hold a {SEPARATOR_NAMES[separator]}",
                )
            else:
                yield place, dict(zip(columns, cells, strict=True))
        if columns is None:
            match_columns(path, [])


def _header(place: str, line: str) -> tuple[str, list[str]]:
    """The separator and the names of the columns."""
    candidates: dict[str, list[str]] = {}
    for separator in SEPARATORS:
        names = split_line(line, separator)
        if isinstance(names, str):
            continue
        candidates[separator] = names
        if has_required(names):
            if separator != SEPARATORS[0]:
                log.info("%s: cells end with a %s", place, SEPARATOR_NAMES[separator])
            return separator, names
    if not candidates:
        raise InputError(f"{place}: {split_line(line, SEPARATORS[0])}")
    separator = max(candidates, key=lambda separator: len(candidates[separator]))
    return separator, candidates[separator]


def split_line(line: str, separator: str) -> list[str] | str:
    """The cells of a line, or what is wrong with its quotes."""
    try:
        cells = next(csv.reader([line], delimiter=separator, strict=True), [])
        if '"' not in line:
            return cells
        trimmed = csv.reader([line], delimiter=separator, strict=True, skipinitialspace=True)
        is_clear = [cell.lstrip() for cell in next(trimmed, [])] == [c.lstrip() for c in cells]
    except csv.Error as error:
        if "unexpected end" in str(error):
            return "a quote opens in this line and does not close in it; needed one row a line"
        if "field limit" in str(error):
            return "a cell of more than 100,000 characters"
        return 'text before or after a quote; quote the whole cell, and write "" for a quote in it'
    return cells if is_clear else "a space stands before a quote; remove it"


def _jsonl_rows(path: Path) -> Read:
    with path.open(encoding="utf-8-sig", newline="\n") as file:
        for number, line in enumerate(file, start=1):
            place = f"{path}:{number}"
            if not line.strip():
                continue
            try:
                row = json.loads(line, object_pairs_hook=_without_repeats)
            except _Repeated as repeated:
                yield Finding(place, f"{repeated.args[0]!r} stands twice; needed each name once")
                continue
            except (ValueError, RecursionError):
                row = None
            if isinstance(row, dict):
                yield _named(place, row)
            elif number == 1 and line.lstrip().startswith("["):
                raise InputError(f"{path}: one JSON list; needed one object in each line")
            else:
                yield Finding(place, "no JSON object; needed one in each line")


class _Repeated(Exception):
    """A name stands twice in an object of JSON."""


def _without_repeats(pairs: list[tuple[str, Any]]) -> Cells:
    row = dict(pairs)
    if len(row) < len(pairs):
        names = [name for name, _ in pairs]
        raise _Repeated(next(name for name in names if names.count(name) > 1))
    return row


def _named(place: str, row: Cells) -> tuple[str, Cells] | Finding:
    """The cells of a row by the columns that their names mean."""
    cells: Cells = {}
    for name, value in row.items():
        column = known_name(name)
        if column is None:
            return Finding(place, unknown(name))
        if column in cells:
            return Finding(place, f"{name!r} is {column}, which stands twice; needed it once")
        cells[column] = value
    return place, cells


def _parquet_rows(path: Path) -> Read:
    with pq.ParquetFile(path, buffer_size=READ_AHEAD, page_checksum_verification=True) as file:
        names = [name for name in file.schema_arrow.names if not PANDAS_INDEX.fullmatch(name)]
        columns = dict(zip(names, match_columns(path, names), strict=True))
        number = 0
        for batch in file.iter_batches(columns=names):
            for row in batch.to_pylist():
                cells = {columns[name]: value for name, value in row.items()}
                yield f"{path}: row {number}", cells
                number += 1


SEPARATOR_NAMES = {",": "comma", ";": "semicolon", "\t": "tab", "|": "bar"}
TABLES: dict[str, Callable[[Path], Read]] = {
    ".csv": _csv_rows,
    ".tsv": _csv_rows,
    ".jsonl": _jsonl_rows,
    ".parquet": _parquet_rows,
}
ENDINGS = "a table that ends in .csv, .tsv, .jsonl or .parquet"
