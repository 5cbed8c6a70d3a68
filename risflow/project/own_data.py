"""A user's own pictures and expressions as a data set and an experiment of the project.

A folder has a table (CSV, JSONL or Parquet with the columns image and expression), or pictures
with a text beside each (photo.jpg, photo.txt: an expression a line), of which a table is made.
"""

import csv
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from risflow.project.project import CONFIGS, read_project
from stages.config.load import Configs, load_configs
from stages.config.names import name_fault, taken_names
from stages.config.requirements import files_of_experiment, missing
from stages.data.columns import REQUIRED
from stages.data.entries import Finding
from stages.data.formats import ENDINGS
from stages.data.rows import DEFAULT_SPLIT, TABLES, Row, own_expression_fault, read_rows
from stages.runtime.errors import InputError
from stages.storage.files import replacing

# A class, then the box or the corners of an object, as numbers.
YOLO_ROW = re.compile(r"\d+(\s+-?\d+(\.\d+)?([eE]-?\d+)?){4,}")
MADE_TABLE = "expressions.csv"
SMALL = "refshapes_tris"  # the experiment whose options need no download
NOT_TAKEN_OVER = ("dataset", "upper_bound", "evaluation", "expected", "published", "reasons")
MOST_NAMED = 5  # pictures that are left out


@dataclass(frozen=True)
class Added:
    """What new_dataset wrote, and what it has to say of it."""

    files: list[Path]
    summary: str  # of the table
    missing: str | None  # weights that are to be fetched before masks are made


@dataclass(frozen=True)
class _Table:
    path: Path
    images: Path  # the folder that they are in
    rows: list[Row]

    @property
    def splits(self) -> list[str]:
        return list(dict.fromkeys(row.split or DEFAULT_SPLIT for row in self.rows))

    @property
    def summary(self) -> str:
        images = {row.image for row in self.rows}
        text = f"{self.path}: {len(self.rows):,} expressions of {len(images):,} pictures"
        if not any(row.object for row in self.rows):
            text += ", each of an object of its own (a column object says which are of one)"
        text += f"; {'some' if any(row.mask for row in self.rows) else 'no'} masks"
        return text + self._left_out()

    def _left_out(self) -> str:
        """The pictures of the folder that no row is of, if there are any."""
        used = {self.images / name for row in self.rows for name in (row.image, row.mask) if name}
        unused = [
            path.relative_to(self.images).as_posix()
            for path in sorted(self.images.rglob("*"))
            if path.suffix.lower() in ENDINGS and path not in used
        ]
        if not unused:
            return ""
        names = ", ".join(unused[:MOST_NAMED]) + (", ..." if len(unused) > MOST_NAMED else "")
        left_out = f"; {len(unused):,} pictures without an expression are left out: {names}"
        beside = [name for name in unused if (self.images / name).with_suffix(".txt").exists()]
        if beside:
            left_out += f"; texts beside pictures are not read while there is {self.path.name}"
        return left_out


def new_dataset(folder: Path, name: str, force: bool, small_clip: bool) -> Added:
    """Write the two YAML files, and a table where there is none.

    Raises InputError, before anything is written, for a name that cannot be, for files that are
    there already (without `force`), and for a folder without expressions.
    """
    configs = read_project()
    _require_name(name, configs)
    dataset = CONFIGS / "datasets" / f"{name}.yaml"
    experiment = CONFIGS / "experiments" / f"{name}_masks.yaml"
    for path in (dataset, experiment):
        if path.exists() and not force:
            raise InputError(f"{path}: is there; --force writes it anew")
    if not folder.exists():
        raise InputError(f"{folder}: no such folder; needed one with pictures and expressions")
    files = [dataset, experiment]
    table_path = _find_table(folder)
    if table_path is None:
        table_path = folder / MADE_TABLE
        _write_table(table_path, _sidecar_rows(folder))
        files.insert(0, table_path)
    table = _read_table(table_path)
    _write_yaml(
        dataset,
        f"{name}: pictures and expressions of {_shown(folder)}.",
        {"source": "table", "annotations": _shown(table.path), "images": _shown(table.images)},
    )
    _write_yaml(
        experiment,
        f"Masks of {name}, from text alone.",
        {
            "dataset": name,
            "evaluation": {"splits": table.splits},
            **(_small_options() if small_clip else {}),
        },
    )
    configs, target = load_configs(CONFIGS), f"{name}_masks"
    needed = files_of_experiment(target, configs)
    return Added(files, table.summary, missing(target, needed, configs))


def _require_name(name: str, configs: Configs) -> None:
    """Raises InputError for a name by which no data set, or no experiment on it, could be made."""
    place, experiment = f"--name {name}", f"{name}_masks"
    fault = name_fault(name)
    if fault is not None:
        raise InputError(f"{place}: {fault}")
    taken = taken_names(configs)
    for wanted, known in ((name, set(configs.datasets)), (experiment, set(configs.experiments))):
        if wanted in taken and wanted not in known:
            raise InputError(f"{place}: {taken[wanted]} is called {wanted}; needed another name")
    other = configs.experiments.get(experiment)
    if other is not None and other.dataset != name:
        raise InputError(f"{place}: the experiment {experiment} is of {other.dataset}")
    dataset = configs.datasets.get(name)
    if dataset is not None and dataset.source != "table":
        raise InputError(f"{place}: a data set of source {dataset.source} has this name")


def _find_table(folder: Path) -> Path | None:
    """The table that a folder has, or that `folder` itself is."""
    if folder.is_file():
        return folder
    tables = [path for path in sorted(folder.iterdir()) if path.suffix.lower() in TABLES]
    if len(tables) > 1:
        names = ", ".join(path.name for path in tables)
        raise InputError(f"{folder}: several tables ({names}); give the path of one")
    return tables[0] if tables else None


def _sidecar_rows(folder: Path) -> list[tuple[str, str]]:
    """(image, expression) of all pictures with a text beside them."""
    rows = []
    for image in sorted(p for p in folder.rglob("*") if p.suffix.lower() in ENDINGS):
        text = image.with_suffix(".txt")
        if not text.is_file():
            continue
        name = image.relative_to(folder).as_posix()
        rows += [(name, line) for line in _sidecar_lines(text)]
    if not rows:
        raise InputError(
            f"{folder}: no table with columns {' and '.join(REQUIRED)}, and no picture with a text"
            " beside it (photo.jpg, photo.txt: an expression a line)"
        )
    return rows


def _sidecar_lines(path: Path) -> list[str]:
    """The expressions in a text, each once. Raises InputError for what is none."""
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not UTF-8 text ({error})") from None
    known = {line.strip(): number for number, line in enumerate(lines, 1) if line.strip()}
    if known and all(YOLO_ROW.fullmatch(line) for line in known):
        raise InputError(f"{path}: holds YOLO boxes, no words; needed an expression a line")
    for line, number in known.items():
        fault = own_expression_fault(line)
        if fault is not None:
            raise InputError(f"{path}:{number}: {fault}")
    return list(known)


def _write_table(path: Path, rows: list[tuple[str, str]]) -> None:
    with replacing(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([REQUIRED, *rows])


def _read_table(path: Path) -> _Table:
    """A table whose first image is there, with a split `train`."""
    rows: list[Row] = []
    for row in read_rows(path):
        if isinstance(row, Finding):
            raise InputError(str(row))
        rows.append(row)
    if not rows:
        raise InputError(f"{path}: no rows; needed at least one")
    first = rows[0]
    folders = [path.parent, path.parent / "images"]
    images = next((folder for folder in folders if (folder / first.image).is_file()), None)
    if images is None:
        raise InputError(
            f"{first.place}: image {first.image!r} is neither in {folders[0]} nor {folders[1]}"
        )
    table = _Table(path, images, rows)
    if "train" not in table.splits:
        splits = ", ".join(table.splits)
        raise InputError(f"{path}: splits {splits}; needed train to learn from")
    return table


def _small_options() -> dict[str, Any]:
    path = CONFIGS / "experiments" / f"{SMALL}.yaml"
    if not path.is_file():
        raise InputError(f"{path}: no such file; --small-clip takes its options")
    options: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    return {key: value for key, value in options.items() if key not in NOT_TAKEN_OVER}


def _shown(path: Path) -> str:
    """From here if it is in here."""
    whole, here = path.resolve(), Path.cwd().resolve()
    return str(whole.relative_to(here) if whole.is_relative_to(here) else whole)


def _write_yaml(path: Path, about: str, content: dict[str, Any]) -> None:
    text = yaml.safe_dump(content, sort_keys=False, allow_unicode=True)
    with replacing(path) as temporary:
        temporary.write_text(f"# {about}\n{text}", encoding="utf-8")
