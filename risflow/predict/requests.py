"""Requests: images and expressions, from the command line or from a table."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from stages.data.entries import LONGEST, Finding
from stages.runtime.errors import InputError


@dataclass(frozen=True)
class Request:
    """An image and expressions of objects in it."""

    image: Path
    expressions: list[str]


def require_expressions(expressions: Sequence[str], place: str = "") -> None:
    """Raises InputError for no expression, an empty one, or one that is too long."""
    if not expressions:
        raise InputError(f"{place}no expression; needed at least one")
    for number, text in enumerate(expressions, 1):
        if not text.strip():
            raise InputError(f"{place}expression {number} is empty; needed words")
        if len(text) > LONGEST:
            raise InputError(
                f"{place}expression {number} has {len(text):,} characters ({text[:30]!r}...);"
                f" at most {LONGEST:,} are taken"
            )


def read_requests(table: Path) -> list[Request]:
    """A request for each image of a table; paths are relative to it, and the files must exist.

    Raises InputError that names the row.
    """
    from stages.data.own_table import read_rows  # imports pyarrow, for a second

    expressions: dict[Path, list[str]] = {}
    for row_or_finding in read_rows(table):
        if isinstance(row_or_finding, Finding):
            raise InputError(str(row_or_finding))
        place, row = row_or_finding
        image, text = str(row.get("image") or ""), str(row.get("expression") or "")
        if not (table.parent / image).is_file():
            raise InputError(f"{place}: image {image!r} is not in {table.parent}")
        require_expressions([text], f"{place}: ")
        expressions.setdefault(table.parent / image, []).append(text)
    if not expressions:
        raise InputError(f"{table}: no rows; needed at least one")
    return [Request(image, texts) for image, texts in expressions.items()]
