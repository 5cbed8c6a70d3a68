"""Drawn results that the page loads, kept in memory up to a limit.

gradio keeps results that nobody fetches, of up to 2,000 visitors. Results therefore hold the
addresses of their drawings, not the drawings.
"""

import secrets
from collections import OrderedDict
from threading import Lock

MOST_DRAWING_BYTES = 100_000_000


class Drawings:
    """Encoded images by a name that nobody guesses; the oldest give way to new ones."""

    def __init__(self, most_bytes: int = MOST_DRAWING_BYTES) -> None:
        self.most_bytes = most_bytes
        self._kept: OrderedDict[str, bytes] = OrderedDict()
        self._size = 0
        self._lock = Lock()

    def add(self, content: bytes) -> str:
        """Keep an image; returns its name."""
        name = secrets.token_urlsafe(16)
        with self._lock:
            self._kept[name] = content
            self._size += len(content)
            while self._size > self.most_bytes:
                self._size -= len(self._kept.popitem(last=False)[1])
        return name

    def get(self, name: str) -> bytes | None:
        return self._kept.get(name)
