"""The objects of a user's own table of expressions.

The rows of an object need not be neighbors: they are spooled on disk, so that a table can have any
size.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from stages.data.entries import Entry, Expression, Finding
from stages.data.rows import DEFAULT_SPLIT, read_rows
from stages.data.spool import Spool


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
            name = row.object or row.mask or f"row {number}"
            kind = "object" if row.object else "mask" if row.mask else "row"
            image = str(Path(row.image))  # ./a.jpg is a.jpg
            record = (row.place, image, name, row.split or DEFAULT_SPLIT, row.mask)
            spool.add((image, kind, name), (*record, row.expression))
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
        frame="upright",
    )
