"""The files that the page of `risflow serve` may read: uploads and examples, nothing else."""

import os
import stat
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeGuard

REFUSED = "image: not uploaded to this page, or deleted since; upload it again"
MOST_FILES = 200
MOST_TOTAL_BYTES = 500_000_000  # of all uploads
SPARED = 300  # seconds that an upload is never deleted in
PUBLIC = "/uploads"  # what visitors read in place of the folder


@dataclass(frozen=True)
class Uploads:
    """The folder into which only gradio writes: uploads and copies of examples."""

    folder: Path  # an absolute path without symbolic links
    most_files: int = MOST_FILES
    most_bytes: int = MOST_TOTAL_BYTES
    examples: set[Path] = field(default_factory=set)  # files that are no uploads

    def find(self, public: object) -> str | None:
        """The path of an upload or an example by the path that visitors have, None for others."""
        if not isinstance(public, str) or not public.startswith(f"{PUBLIC}/"):
            return None
        path = str(self.folder) + public.removeprefix(PUBLIC)
        return path if self.holds(path) else None

    def holds(self, path: object) -> TypeGuard[str]:
        """Whether this is the absolute path of a regular file inside the folder.

        A path elsewhere is compared as text, never looked up: neither the result nor its time
        tells whether it exists, and no device or pipe is opened.
        """
        if not isinstance(path, str) or "\0" in path or os.path.normpath(path) != path:
            return False
        place = Path(path)
        if not place.is_relative_to(self.folder):
            return False
        try:
            return stat.S_ISREG(place.lstat().st_mode) and place.resolve() == place
        except (OSError, ValueError):  # missing, too long a name, half a character
            return False

    def files(self) -> list[tuple[float, int, Path]]:
        """Time, size and path of all files, the oldest first."""
        files = []
        for path in self.folder.rglob("*"):
            try:
                status = path.lstat()
            except FileNotFoundError:  # deleted meanwhile
                continue
            if stat.S_ISREG(status.st_mode):
                files.append((status.st_mtime, status.st_size, path))
        return sorted(files)

    def make_room(self, size: int) -> bool:
        """Delete the oldest uploads until one more fits; False if the others are too new."""
        uploads = [file for file in self.files() if file[2] not in self.examples]
        total = sum(length for _, length, _ in uploads) + size
        remaining = len(uploads) + 1
        for modified, length, path in uploads:
            if remaining <= self.most_files and total <= self.most_bytes:
                break
            if time.time() - modified < SPARED:
                return False
            path.unlink(missing_ok=True)
            remaining, total = remaining - 1, total - length
        return True
