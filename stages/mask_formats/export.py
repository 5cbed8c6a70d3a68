"""An export: masks in one format, in a folder or in one file that a user names."""

import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from stages.config.exports import MaskFormat, MaskStage
from stages.mask_formats.coco import write_coco_file
from stages.mask_formats.rows import MaskRows
from stages.mask_formats.write import WRITERS, count_masks
from stages.runtime.errors import InputError
from stages.storage.files import replacing, replacing_folder, write_json
from stages.storage.tables import read_samples

MARK = ".risflow.json"  # in the folder of an export: what it is


@dataclass(frozen=True)
class Export:
    """What is written, and where: a folder, a .zip of it, or COCO's one file (.json)."""

    format: MaskFormat
    stage: MaskStage
    splits: tuple[str, ...]
    place: Path

    def write(self, samples: Path, shards: Sequence[Path]) -> tuple[dict[str, Any], Path]:
        """Write it as a whole; returns counts, and the folder that names of images are in."""
        rows = MaskRows(read_samples(samples), self.splits, self.stage, shards)
        counts = count_masks(rows)
        if self.place.suffix == ".json":
            with replacing(self.place) as temporary:
                write_coco_file(temporary, rows)
        elif self.place.suffix == ".zip":
            with replacing(self.place) as temporary:
                self._write_zip(temporary, rows)
        else:
            with replacing_folder(self.place) as folder:
                WRITERS[self.format](folder, rows)
                about = {"format": self.format, "stage": self.stage, "splits": self.splits}
                write_json(folder / MARK, about | counts)
        return counts, rows.folder

    def _write_zip(self, path: Path, rows: MaskRows) -> None:
        """Links to images are followed: the file is whole without them."""
        with (
            TemporaryDirectory(dir=path.parent, prefix=".masks.") as name,
            zipfile.ZipFile(path, "w") as file,
        ):
            folder = Path(name)
            WRITERS[self.format](folder, rows)
            for member in sorted(folder.rglob("*")):
                if member.is_file():
                    file.write(member, member.relative_to(folder), zipfile.ZIP_DEFLATED)


def require_place(place: Path, format: MaskFormat, force: bool) -> None:
    """Raises InputError where an export cannot go.

    That is a file or a folder with content, unless it is an export itself and is to be replaced.
    """
    if place.suffix == ".json" and format != "coco":
        raise InputError(f"{place}: {format} is no one file; needed a folder or a name in .zip")
    if place.is_dir():
        if place.suffix in (".json", ".zip"):
            raise InputError(f"{place}: a folder; needed another name")
        if not any(place.iterdir()):
            return
        if force and not (place / MARK).is_file():
            raise InputError(
                f"{place}: holds files that are no export; --force replaces exports only: name"
                " another folder"
            )
        if not force:
            raise InputError(f"{place}: is not empty; --force replaces it")
    elif place.exists() and place.suffix not in (".json", ".zip"):
        raise InputError(f"{place}: a file; needed a folder")
    elif place.exists() and not force:
        raise InputError(f"{place}: is there; --force replaces it")
