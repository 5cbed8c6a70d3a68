"""Unpack a zip file: beside its place, checked, and then moved there.

The archive is removed last: as long as it is there, its content may not be.
"""

import shutil
import zipfile
from pathlib import Path

from tqdm import tqdm

from stages.runtime.errors import InputError
from stages.runtime.file_kinds import ZIP_ERRORS
from stages.runtime.foreign_errors import first_line
from stages.storage.files import require_space

# Of names in a damaged archive that no file can have.
NAME_ERRORS = (FileExistsError, IsADirectoryError, NotADirectoryError)


def unpack(archive: Path, folder: Path) -> None:
    """Put all files of an archive into `folder`, and remove it.

    The content is moved as a whole: one rename of each folder or file at the top of the archive
    that is not there yet. Raises InputError, and removes the archive, if it is damaged.
    """
    staging = folder / f".{archive.name}.unpacking"
    shutil.rmtree(staging, ignore_errors=True)  # of a killed process
    staging.mkdir(parents=True)
    try:
        with zipfile.ZipFile(archive) as opened:
            entries = [entry for entry in opened.infolist() if not entry.is_dir()]
            require_space(folder, sum(entry.file_size for entry in entries), archive)
            # extract never writes outside of the folder, and compares checksums.
            paths = {
                Path(opened.extract(entry, staging)): entry.file_size
                for entry in tqdm(entries, desc=archive.name, disable=None)
            }
        _move(staging, folder)
        _check({folder / path.relative_to(staging): size for path, size in paths.items()}, archive)
    except (*ZIP_ERRORS, *NAME_ERRORS) as error:
        if isinstance(error, InputError):
            raise
        archive.unlink()
        raise InputError(
            f"{archive}: damaged ({first_line(error)}); it was removed: fetch it again"
        ) from None
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    archive.unlink()


def _check(paths: dict[Path, int], archive: Path) -> None:
    """Compare the files, with their sizes, to what the archive lists."""
    there = sum(path.is_file() and path.stat().st_size == size for path, size in paths.items())
    if there != len(paths):
        raise zipfile.BadZipFile(f"{there:,} of its {len(paths):,} files are in place")


def _move(source: Path, target: Path) -> None:
    """Move a file or a folder; into folders that are there already, their content."""
    if source.is_dir() and target.is_dir():
        for path in sorted(source.iterdir()):
            _move(path, target / path.name)
    else:
        source.replace(target)
