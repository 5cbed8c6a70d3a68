"""The columns of a user's own table: known by their names, whatever their case and spaces."""

import logging
import re
from collections.abc import Sequence
from pathlib import Path

from stages.runtime.errors import InputError, suggest

REQUIRED = ("image", "expression")
COLUMNS = (*REQUIRED, "split", "object", "mask")
PANDAS_INDEX = re.compile(r"__index_level_\d+__")  # what pandas adds to a Parquet file

log = logging.getLogger(__name__)


def known_name(name: str) -> str | None:
    """The column that a name means; None if it means none."""
    plain = "".join(name.split()).casefold()
    return plain if plain in COLUMNS else None


def has_required(names: Sequence[str]) -> bool:
    """Whether all columns that a table needs are among the names."""
    return set(REQUIRED) <= {known_name(name) for name in names}


def match_columns(path: Path, names: Sequence[str]) -> list[str]:
    """The column that each name means.

    Raises InputError for a missing, unknown, repeated or unnamed column.
    """
    known = [known_name(name) for name in names]
    for required in REQUIRED:
        if required not in known:
            raise InputError(
                f"{path}: no column {required!r} among {', '.join(names) or 'none'};"
                f" needed {' and '.join(REQUIRED)}, and known are {', '.join(COLUMNS[2:])}"
            )
    for number, (name, column) in enumerate(zip(names, known, strict=True), start=1):
        if not name.strip():
            raise InputError(
                f"{path}: column {number} has no name; name it, or remove it (pandas:"
                " to_csv(index=False))"
            )
        if column is None:
            raise InputError(f"{path}: {unknown(name)}")
        if column in known[: number - 1]:
            first = names[known.index(column)]
            raise InputError(f"{path}: columns {first!r} and {name!r} are both {column}")
    return [column for column in known if column is not None]


def unknown(name: str) -> str:
    """What is wrong with a column, with the closest one that is known."""
    remedy = suggest("".join(name.split()).casefold(), COLUMNS, f"known: {', '.join(COLUMNS)}")
    return f"column {name!r} is not known; {remedy}"
