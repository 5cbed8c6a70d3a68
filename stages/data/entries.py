"""What annotation sources give: objects as they are written down, and what is wrong with a row."""

from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

LONGEST = 1000  # characters of an expression, whoever gives it: models read some 20 words


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


@dataclass(frozen=True)
class Finding:
    """What is wrong with a row: the place, what was found and what is needed."""

    place: str
    found: str

    def __str__(self) -> str:
        return f"{self.place}: {self.found}"
