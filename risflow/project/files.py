"""What a project starts with: in the wheel beside this module, in a checkout at its root."""

import errno
import os
import shutil
import tempfile
from contextlib import ExitStack
from pathlib import Path

from stages.config.project_version import VERSION, VERSION_FILE
from stages.runtime.errors import InputError

WORKFLOW = ("Snakefile", "workflow", "profiles")
DATA = (
    "data/small_clip.json",
    "data/small_clip.safetensors",
    "data/placed_clip.json",
    "data/placed_clip.safetensors",
    "data/mini_dino.safetensors",
    "data/demo_segmentor.safetensors",
    "data/example.jpg",
)
FILES = (*WORKFLOW, "configs", *DATA)
KEPT = "".join(f"!/{name}\n" for name in DATA)
IGNORED = f"/results/\n/data/*\n{KEPT}/logs/\n/.snakemake/\n__pycache__/\n"


def source() -> Path:
    """The folder of the files. Raises InputError for an installation without them."""
    for folder in (Path(__file__).parent / "files", Path(__file__).parents[2]):
        if (folder / "Snakefile").is_file():
            return folder
    raise InputError("this installation has no workflow; needed: risflow from its wheel or a clone")


def copy_project(folder: Path) -> list[str]:
    """Write a project into a folder, which may hold other files; returns the names.

    Raises InputError, and writes nothing, if any of the names is there already.
    """
    there = [name for name in FILES if os.path.lexists(folder / name)]
    if there:
        raise InputError(
            f"{folder}: {there[0]} is there already; needed a folder without a project, or"
            f" `risflow init {folder} --update` for the workflow of this version"
        )
    _write(folder, FILES)
    if (folder / ".gitignore").exists():
        return list(FILES)
    (folder / ".gitignore").write_text(IGNORED)
    return [*FILES, ".gitignore"]


def update_workflow(folder: Path) -> list[str]:
    """Replace Snakefile, workflow/ and profiles/; what was there stays beside as `<name>.old`.

    Raises InputError for a folder that is no project, and for a clone.
    """
    # An update that was killed may have left the Snakefile as the old one alone.
    snakefiles = (folder / "Snakefile", folder / "Snakefile.old")
    if not any(path.is_file() for path in snakefiles) or not (folder / "configs").is_dir():
        raise InputError(f"{folder}: no project here; `risflow init {folder}` makes one")
    if folder.resolve() == source().resolve():
        raise InputError(f"{folder}: a clone, which git updates; needed a project of risflow init")
    _write(folder, WORKFLOW)
    return list(WORKFLOW)


def _write(folder: Path, names: tuple[str, ...]) -> None:
    """All of the names or, on an error, none: they are copied beside, then moved.

    What has such a name is moved to `<name>.old`.
    """
    if folder.exists() and not folder.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(folder))
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".risflow-", dir=folder) as temporary:
        for name in names:
            copy = Path(temporary, name)
            copy.parent.mkdir(parents=True, exist_ok=True)
            if (source() / name).is_dir():
                ignored = shutil.ignore_patterns("__pycache__")
                shutil.copytree(source() / name, copy, ignore=ignored)
            else:
                shutil.copyfile(source() / name, copy)
        Path(temporary, VERSION_FILE).write_text(f"{VERSION}\n")
        _swap(Path(temporary), folder, names)


def _swap(new: Path, folder: Path, names: tuple[str, ...]) -> None:
    """Move the names from `new` into the folder; an error, or Ctrl-C, moves everything back."""
    with ExitStack() as undo:
        for name in names:
            path, old, older = folder / name, folder / f"{name}.old", new / f"{name}.older"
            path.parent.mkdir(parents=True, exist_ok=True)
            moves = [(new / name, path)]
            if os.path.lexists(path):
                moves = [(path, old), *moves]
                if os.path.lexists(old):
                    moves = [(old, older), *moves]
            for place, target in moves:
                place.rename(target)
                undo.callback(target.rename, place)
        undo.pop_all()
