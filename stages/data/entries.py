"""Items of annotation sources: objects as annotated, and findings about rows that are wrong."""

from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple

LONGEST = 1000  # characters of any expression; models read about 20 words


class Expression(NamedTuple):
    """What is said of an object."""

    text: str  # REFER's `sent`: lower case, without punctuation
    kind: str | None = None
    raw: str | None = None  # REFER's `raw`: as people typed it; None where a source has one text


@dataclass
class Entry:
    """One object as annotated in the source."""

    place: str  # where in the source, for messages
    name: str
    image: Path
    split: str
    expressions: list[Expression]
    places: list[str]  # of the expressions
    category: str | None = None
    boxes: list[list[float]] | None = None
    segmentations: list[Any] | None = None  # COCO's; their union is the mask
    mask_file: Path | BytesIO | None = None  # or an image whose pixels above zero are the mask
    size: tuple[int, int] | None = None  # width and height of the image according to the source
    no_target: bool = False


@dataclass(frozen=True)
class Finding:
    """A problem of a row: its place, what was found and what is needed."""

    place: str
    found: str

    def __str__(self) -> str:
        return f"{self.place}: {self.found}"
