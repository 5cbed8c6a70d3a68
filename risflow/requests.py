"""What is asked for: pictures and expressions, from the command line or from a table."""

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from stages.core.errors import InputError

COLUMNS = ("image", "expression")
MOST_CHARACTERS = 1000  # of an expression: models read some 20 words


@dataclass(frozen=True)
class Request:
    """A picture, and expressions to be found in it."""

    image: Path
    expressions: list[str]


def require_expressions(expressions: Sequence[str], place: str = "") -> None:
    """Raises InputError for none, an empty one, or one that is no sentence."""
    if not expressions:
        raise InputError(f"{place}no expression; needed at least one")
    for number, text in enumerate(expressions, 1):
        if not text.strip():
            raise InputError(f"{place}expression {number} is empty; needed words")
        if len(text) > MOST_CHARACTERS:
            raise InputError(
                f"{place}expression {number} has {len(text):,} characters ({text[:30]!r}...);"
                f" at most {MOST_CHARACTERS:,} are taken"
            )


def read_requests(table: Path) -> list[Request]:
    """A request for each image of a CSV; images are relative to the table, and must be there.

    Raises InputError that names the line.
    """
    found: dict[Path, list[str]] = {}
    try:
        with table.open(newline="", encoding="utf-8-sig") as opened:
            rows = csv.DictReader(opened)
            missing = [name for name in COLUMNS if name not in (rows.fieldnames or ())]
            if missing:
                columns = ", ".join(rows.fieldnames or ()) or "none"
                raise InputError(
                    f"{table}: no column {missing[0]} (columns: {columns}); needed image,"
                    " expression"
                )
            for row in rows:
                place = f"{table}:{rows.line_num}: "
                image = table.parent / (row["image"] or "")
                if not image.is_file():
                    raise InputError(f"{place}image {row['image']!r} is not in {table.parent}")
                require_expressions([row["expression"] or ""], place)
                found.setdefault(image, []).append(row["expression"])
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{table}: not a CSV table ({error})") from None
    if not found:
        raise InputError(f"{table}: no rows; needed at least one")
    return [Request(image, expressions) for image, expressions in found.items()]
