"""Large JSON files element by element: a list, or the lists in a mapping.

Python's own decoder parses one value at a time, from text that is read piece by piece. All
functions raise ValueError for text that is not JSON or not of this form.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

CHUNK = 1 << 20  # characters
SPACE = " \t\n\r"


def list_elements(path: Path) -> Iterator[Any]:
    """The elements of the list in a file."""
    with _opened(path, "[") as text:
        yield from (value for value, _ in _list(text))


def named_lists(path: Path) -> Iterator[tuple[str, Iterator[tuple[Any, str]]]]:
    """The names of the lists in a mapping, and their elements, each with its text.

    Elements must be taken before the next name. Other values of the mapping are skipped.
    """
    with _opened(path, "{") as text:
        more = text.begins("}")
        while more:
            name, _ = text.value()
            if not isinstance(name, str) or text.next() != ":":
                raise ValueError(f"{name!r} is no name with a value")
            if text.peek() == "[":
                elements = _list(text)
                yield name, elements
                for _ in elements:  # those that were not taken
                    pass
            else:
                text.value()
            more = text.goes_on("}")


@contextmanager
def _opened(path: Path, opening: str) -> Iterator["_Text"]:
    """The text in a file after its opening bracket; nothing may follow the closing one."""
    with path.open(encoding="utf-8-sig") as file:
        text = _Text(file)
        if text.peek() != opening:
            raise ValueError(f"begins with {text.peek()!r}; needed {opening!r}")
        yield text
        if text.peek():
            raise ValueError(f"goes on with {text.peek()!r} after its end")


class _Text:
    """The text of a file, of which only the part that the next value needs is in memory."""

    def __init__(self, file: TextIO) -> None:
        self.file, self.kept, self.place = file, "", 0
        self.decode = json.JSONDecoder().raw_decode

    def _more(self, characters: int = CHUNK) -> bool:
        added = self.file.read(characters)
        self.kept, self.place = self.kept[self.place :] + added, 0
        return bool(added)

    def peek(self) -> str:
        """The next character that is no space; empty at the end."""
        while True:
            while self.place < len(self.kept):
                if self.kept[self.place] not in SPACE:
                    return self.kept[self.place]
                self.place += 1
            if not self._more():
                return ""

    def next(self) -> str:
        """Take the next character that is no space."""
        character = self.peek()
        self.place += 1
        return character

    def value(self) -> tuple[Any, str]:
        """Take the next value; returns it and its text."""
        self.peek()
        while True:
            try:
                value, end = self.decode(self.kept, self.place)
            except ValueError:
                # Incomplete or wrong: read more to tell. Doubling the text keeps the number of
                # attempts small.
                if not self._more(max(CHUNK, len(self.kept))):
                    raise
                continue
            text = self.kept[self.place : end]
            # A number at the end of the text may have more digits.
            if end < len(self.kept) or not self._more():
                self.place += len(text)
                return value, text

    def begins(self, closing: str) -> bool:
        """Take an opening bracket; returns whether something is inside."""
        self.next()
        if self.peek() != closing:
            return True
        self.next()
        return False

    def goes_on(self, closing: str) -> bool:
        """Take the comma or bracket after a value; returns whether it is a comma."""
        character = self.next()
        if character not in (",", closing):
            raise ValueError(f"{character!r} after a value; needed a comma or {closing!r}")
        return character == ","


def _list(text: _Text) -> Iterator[tuple[Any, str]]:
    more = text.begins("]")
    while more:
        yield text.value()
        more = text.goes_on("]")
