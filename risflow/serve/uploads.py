"""The files that the page of `risflow serve` may read: uploads and examples, nothing else."""

import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import TypeGuard

REFUSED = "image: not uploaded to this page, or deleted since; upload it again"


@dataclass(frozen=True)
class Uploads:
    """The folder into which only gradio writes: uploads and copies of examples."""

    folder: Path  # an absolute path without symbolic links

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
