"""Damaged files: bytes that are not those that were written, by a bad disk or a broken copy.

What is found before a value is used is named in one line, with the step that makes the file again.
"""

import zipfile
from pathlib import Path

from stages.runtime.errors import InputError
from stages.runtime.file_kinds import ZIP_ERRORS
from stages.runtime.foreign_errors import first_line

CHUNK = 1 << 20  # bytes
DIRECTORY = 0x10  # the attribute by which torch takes an entry for a folder, without content
# What makes the files of results/work/<kind>/.
STEPS = {
    "samples": "prepare",
    "text_features": "encode_text",
    "stage1": "train_stage1",
    "maps": "select_maps",
    "votes": "vote",
    "labels": "make_labels",
    "affinity": "train_affinity",
    "pseudo_masks": "propagate",
    "regions": "find_regions",
    "assigned": "assign_masks",
    "segmentor": "train_segmentor",
    "imported": "import_checkpoint",
    "predictions": "predict",
    "rows": "evaluate",
    "scores": "score",
}


def damaged(path: Path, reason: object) -> InputError:
    """The error of a file with other bytes than were written."""
    step, reason = STEPS.get(path.resolve().parent.parent.name), first_line(reason)
    if step is None:
        return InputError(f"{path}: damaged ({reason}); copy it again, or make it anew")
    return InputError(
        f"{path}: damaged ({reason}); delete it and run the same command again: the step {step}"
        " makes it anew"
    )


def archive_damage(path: Path) -> str | None:
    """What is wrong with a zip archive, as torch.save writes; None if nothing is.

    Files of the format before torch 1.6 are no archives and have no checksums: None. So have
    archives that torch wrote without them (`set_crc32_options(False)`), where no entry fits.
    """
    if not zipfile.is_zipfile(path):
        return None
    try:
        with zipfile.ZipFile(path) as archive:
            entries = [entry for entry in archive.infolist() if entry.file_size]
            wrong = [entry.filename for entry in entries if not _fits(archive, entry)]
    except ZIP_ERRORS as error:
        return first_line(error)
    if wrong and len(wrong) < len(entries):
        return f"wrong checksum of {wrong[0]}"
    return None


def _fits(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> bool:
    """Whether an entry has its checksum. Raises zipfile's errors for all other damage."""
    if entry.external_attr & DIRECTORY and not entry.is_dir():
        raise zipfile.BadZipFile(f"{entry.filename} is marked as a folder")
    try:
        with archive.open(entry) as content:
            while content.read(CHUNK):
                pass
    except zipfile.BadZipFile as error:
        if not str(error).startswith("Bad CRC-32"):
            raise
        return False
    return True
