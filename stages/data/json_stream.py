"""Large JSON files element by element: a list, or the lists in a mapping.

Python's own decoder does the parsing; only what it is given is cut from the file piece by piece.
All functions raise ValueError for what is not JSON, or not of this form.
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
    """Of the mapping in a file the names of lists, and their elements, each with its text.

    Elements are to be taken before the next name. What else is in the mapping is skipped.
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
                for _ in elements:  # what was not taken
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
    """The characters of a file, of which no more is kept than the next value needs."""

    def __init__(self, file: TextIO) -> None:
        self.file, self.kept, self.place = file, "", 0
        self.decode = json.JSONDecoder().raw_decode

    def _more(self, characters: int = CHUNK) -> bool:
        added = self.file.read(characters)
        self.kept, self.place = self.kept[self.place :] + added, 0
        return bool(added)

    def peek(self) -> str:
        """The next character that is no space; none at the end."""
        while True:
            while self.place < len(self.kept):
                if self.kept[self.place] not in SPACE:
                    return self.kept[self.place]
                self.place += 1
            if not self._more():
                return ""

    def next(self) -> str:
        """The same, and goes past it."""
        character = self.peek()
        self.place += 1
        return character

    def value(self) -> tuple[Any, str]:
        """The next value and its text."""
        self.peek()
        while True:
            try:
                value, end = self.decode(self.kept, self.place)
            except ValueError:
                # Cut off, or wrong: more of the file tells. Doubled, so that all is read in the end
                # without going through it many times.
                if not self._more(max(CHUNK, len(self.kept))):
                    raise
                continue
            text = self.kept[self.place : end]
            # A number at the end of what is kept may have more digits.
            if end < len(self.kept) or not self._more():
                self.place += len(text)
                return value, text

    def begins(self, closing: str) -> bool:
        """Goes past an opening bracket: whether something is inside."""
        self.next()
        if self.peek() != closing:
            return True
        self.next()
        return False

    def goes_on(self, closing: str) -> bool:
        """Goes past what follows a value: whether that was no closing bracket."""
        found = self.next()
        if found not in (",", closing):
            raise ValueError(f"{found!r} after a value; needed a comma or {closing!r}")
        return found == ","


def _list(text: _Text) -> Iterator[tuple[Any, str]]:
    more = text.begins("]")
    while more:
        yield text.value()
        more = text.goes_on("]")
