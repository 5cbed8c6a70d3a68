"""Turn any annotation source into the samples tables, checked row by row.

Every image is decoded in full, every mask is drawn, every expression is looked at. What is wrong is
told with its place. `on_bad_row: stop` (the default) then ends here; `drop` goes on without those
rows and names each of them.

Rows are gone through one by one and what is needed in another order lies on the disk meanwhile, so
that memory hardly grows with the data set (data/README.md says what a source adds to it).
"""

import logging
import shutil
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from stages.config.contents import LISTING, listing_of
from stages.config.datasets import DatasetConfig
from stages.data.checks import Checked, check_all
from stages.data.entries import Finding
from stages.data.orientation import UPRIGHT
from stages.data.sources import read_source
from stages.data.spool import Spool
from stages.runtime.command_line import main
from stages.runtime.errors import InputError
from stages.storage.files import replacing, write_json
from stages.storage.splits import SplitRule
from stages.storage.tables import TableWriter, count_samples, sample_files

MOST_SHOWN = 20  # findings in one error message

VERSION = 2

log = logging.getLogger(__name__)


def run(samples: Path, config: DatasetConfig, workers: int = 1) -> None:
    """Write the tables of images, objects and expressions, then `samples` (.json) beside them.

    listing.json, beside them too, tells later runs whether one of the images has changed.

    `workers` threads decode images and draw masks.
    """
    with _scratch(samples.parent) as scratch:
        findings = Findings(is_stopped=config.on_bad_row == "stop")
        notes = Notes()
        with SamplesWriter(scratch) as writer:
            for checked in check_all(read_source(config, scratch), config, scratch, workers):
                if isinstance(checked, Finding):
                    findings.add(checked)
                    continue
                for finding in checked.findings:
                    findings.add(finding)
                if checked.is_right:
                    writer.add(checked)
                    notes.add(checked)
        findings.conclude()
        notes.conclude()
        if not writer.num_objects:
            raise InputError(f"{config.annotations}: no object is left; needed at least one")
        counts = count_samples(scratch, split_rule(config))
        for made, table in zip(sample_files(scratch), sample_files(samples.parent), strict=True):
            with replacing(table) as temporary:
                made.replace(temporary)
    _compare(counts, config.published)
    # Images that are generated are known by the options that they are generated with.
    files = writer.files if config.source != "refshapes" else []
    write_json(samples.with_name(LISTING), listing_of(files))
    content = {"splits": counts, "split_rule": split_rule(config), "left_out": findings.count}
    write_json(samples, content)


def split_rule(config: DatasetConfig) -> SplitRule:
    """How splits are matched: REFER's own rule holds for data sets in its format alone."""
    return "refer" if config.source in ("refer", "grefcoco", "refshapes") else "exact"


@contextmanager
def _scratch(folder: Path) -> Iterator[Path]:
    """An empty folder in `folder`, removed at the end; so is `folder` if nothing else is in it."""
    scratch = folder / ".prepare.partial"
    shutil.rmtree(scratch, ignore_errors=True)  # of a run that was killed
    scratch.mkdir(parents=True)
    try:
        yield scratch
    finally:
        shutil.rmtree(scratch)
        with suppress(OSError):
            folder.rmdir()


class Findings:
    """Counts what is wrong, and tells it: the first ones at the end, or each as it comes."""

    def __init__(self, is_stopped: bool) -> None:
        self.is_stopped, self.count = is_stopped, 0
        self.shown: list[Finding] = []

    def add(self, finding: Finding) -> None:
        self.count += 1
        if not self.is_stopped:
            log.warning("left out: %s", finding)
        elif len(self.shown) < MOST_SHOWN:
            self.shown.append(finding)

    def conclude(self) -> None:
        """Raises InputError if there were any and they are not to be left out."""
        if self.count and not self.is_stopped:
            log.warning("%d rows were left out, each named above", self.count)
        elif self.count:
            more = self.count - len(self.shown)
            remedy = "put them right, or leave them out by on_bad_row: drop"
            lines = [f"{self.count} bad rows; {remedy}", *map(str, self.shown)]
            raise InputError("\n".join([*lines, f"... and {more} more"] if more else lines))


class Notes:
    """Counts what can be used and should be known, and tells it once, with the first place."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.first: dict[str, str] = {}

    def add(self, checked: Checked) -> None:
        if checked.note is not None:
            self._count("masks are not exact", checked.note)
        entry = checked.entry
        if checked.orientation != UPRIGHT:
            tag = f"{entry.image} has EXIF orientation {checked.orientation}"
            if entry.frame == "stored":
                told = "objects are turned upright with their images: they are annotated as stored"
                self._count(told, tag)
            elif entry.mask_file is not None:
                told = "masks are taken as upright, since their images are turned by a tag"
                self._count(told, tag)

    def _count(self, kind: str, first: str) -> None:
        self.counts[kind] += 1
        self.first.setdefault(kind, first)

    def conclude(self) -> None:
        for kind, count in self.counts.items():
            log.warning("%d %s; the first: %s", count, kind, self.first[kind])


class SamplesWriter:
    """Writes the three tables; ids are row numbers, in the order of the source."""

    def __init__(self, folder: Path) -> None:
        self.num_images = self.num_objects = self.num_expressions = 0
        self.files: list[str] = []  # of images and masks
        self.open = ExitStack()
        self.numbers = self.open.enter_context(Spool(folder / "numbers.sqlite"))  # of images
        self.images, self.objects, self.expressions = (
            self.open.enter_context(TableWriter(path, path.stem)) for path in sample_files(folder)
        )

    def __enter__(self) -> "SamplesWriter":
        return self

    def __exit__(self, *error: object) -> None:
        self.open.close()

    def add(self, checked: Checked) -> None:
        entry = checked.entry
        if isinstance(entry.mask_file, Path):
            self.files.append(entry.mask_file.as_posix())
        self.objects.add(
            {
                "object": self.num_objects,
                "image": self._image(entry.image, *checked.size),
                "split": entry.split,
                "name": entry.name,
                "category": entry.category,
                "boxes": entry.boxes,
                "mask": checked.mask,
                "no_target": entry.no_target,
            }
        )
        for expression in entry.expressions:
            self.expressions.add(
                {
                    "expression": self.num_expressions,
                    "object": self.num_objects,
                    **expression._asdict(),
                }
            )
            self.num_expressions += 1
        self.num_objects += 1

    def _image(self, file: Path, width: int, height: int) -> int:
        """The number of an image, which is written when it first comes."""
        name = file.as_posix()
        for number in self.numbers.get(name):
            return int(number)
        number = self.num_images
        self.numbers.add(name, number)
        self.files.append(name)
        self.images.add({"image": number, "file": name, "width": width, "height": height})
        self.num_images += 1
        return number


def _compare(counts: dict[str, dict[str, int]], published: dict[str, int]) -> None:
    """Say whether each split has as many objects as published."""
    for split, expected in published.items():
        counted = counts.get(split, {}).get("objects", 0)
        if counted == expected:
            log.info("%s: %s objects, as published", split, f"{counted:,}")
        else:
            log.warning("%s: %s objects; published are %s", split, f"{counted:,}", f"{expected:,}")


if __name__ == "__main__":
    main(run)
