"""Files of the Hugging Face hub: `hf:owner/name/file`, or `hf:owner/name/file@revision`.

In configs/ such a name stands for a file of the data folder, which `risflow fetch` gets: a run
that is planned asks no server.
"""

import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Annotated

from pydantic import AfterValidator

PREFIX = "hf:"
FOLDER = Path("data/weights/hf")
NAME = re.compile(r"[A-Za-z0-9][\w.-]*")  # of owners and repositories
REVISION = re.compile(r"[\w.-]+")  # a branch, a tag or a commit
NEEDED = "needed hf:owner/name/file or hf:owner/name/file@revision"


@dataclass(frozen=True)
class HubFile:
    """A file in a repository of models."""

    repository: str  # owner/name
    file: str
    revision: str | None = None  # None: the newest

    def __str__(self) -> str:
        return f"{PREFIX}{self.repository}/{self.file}" + (
            f"@{self.revision}" if self.revision else ""
        )

    @property
    def path(self) -> Path:
        """Where it is in a project."""
        folder = self.repository + (f"@{self.revision}" if self.revision else "")
        return FOLDER / folder / self.file


def is_hub_name(name: str | Path) -> bool:
    """Whether a name is meant as one of a file of the hub."""
    return str(name).startswith(PREFIX)


def parse_hub_name(name: str | Path) -> HubFile:
    """The file that a name means. Raises ValueError that says how one is written."""
    place, _, revision = str(name).removeprefix(PREFIX).partition("@")
    owner, repository, *file = place.split("/") + [""] * 3
    parts = [part for part in PurePosixPath(*file).parts if file]
    is_whole = is_hub_name(name) and NAME.fullmatch(owner) and NAME.fullmatch(repository)
    if not is_whole or not parts or ".." in parts or ("@" in str(name)) != bool(revision):
        raise ValueError(f"{name}: {NEEDED}")
    if revision and not REVISION.fullmatch(revision):
        raise ValueError(f"{name}: revision {revision!r}; needed a branch, a tag or a commit")
    return HubFile(f"{owner}/{repository}", "/".join(parts), revision or None)


def hub_file_at(path: Path) -> HubFile | None:
    """The file of the hub whose place in a project this is; None for all other files."""
    if not path.is_relative_to(FOLDER):
        return None
    owner, folder, *file = (*path.relative_to(FOLDER).parts, "", "")
    repository, _, revision = folder.partition("@")
    try:
        plain = HubFile(f"{owner}/{repository}", "/".join(filter(None, file)), revision or None)
        return parse_hub_name(str(plain))
    except ValueError:
        return None


def local_path(path: Path) -> Path:
    """The place of a file that configs/ name: of one of the hub, its place in the project."""
    return parse_hub_name(path).path if is_hub_name(path) else path


File = Annotated[Path, AfterValidator(local_path)]  # a path, or a file of the hub
