"""Items of annotation sources: objects as annotated, and findings about rows that are wrong."""

import re
import unicodedata
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple

from stages.data.orientation import Frame

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
    frame: Frame = "stored"  # of boxes and masks: see orientation.py


@dataclass(frozen=True)
class Finding:
    """A problem of a row: its place, what was found and what is needed."""

    place: str
    fault: str

    def __str__(self) -> str:
        return f"{self.place}: {self.fault}"


def expression_fault(text: object) -> str | None:
    """Why an expression of any source cannot be used; None if it can."""
    if not isinstance(text, str) or not text.strip():
        return "empty expression; needed words"
    if not is_unicode(text):
        return "half of a character (a lone surrogate) in the expression; needed text"
    if len(text) > LONGEST:
        return f"{len(text)} characters; needed at most {LONGEST}"
    return None


def is_unicode(*texts: str) -> bool:
    """Whether texts can be written to a file (JSON can hold lone surrogates, which cannot)."""
    try:
        "".join(texts).encode()
    except UnicodeEncodeError:
        return False
    return True


def has_controls(text: str) -> bool:
    """Whether a text has line breaks, tabs or other control characters."""
    return any(unicodedata.category(char) in ("Cc", "Zl", "Zp") for char in text)


def split_fault(split: str) -> str | None:
    """Why nothing can be evaluated on a split of this name: files have it in their names."""
    if re.fullmatch(r"\w+", split):
        return None
    usable = re.sub(r"\W+", "_", split).strip("_") or "test_a"
    return f"split {split!r}; needed letters, digits and _, such as {usable}"
