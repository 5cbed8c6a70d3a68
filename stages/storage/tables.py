"""The Parquet tables that steps pass to each other.

Samples are three tables in one folder; response maps, labels, masks and predictions are one table a
shard. Readers take a list of shards and return one table; ids are row numbers of the samples.

`images`       image, file, width, height
`objects`      object, image, split, name, category, boxes (xywh), mask (RLE or null), no_target
`expressions`  expression, object, text, kind, raw (as typed by people; null if there is one text)
`maps`         object, expression (the chosen one), height, width, input_size (pixels a side of the
               network's input), grid (float32 bytes), scores
`labels`       object, height, width, foreground (RLE), ignore (RLE)
`masks`        object, height, width, mask (RLE), score
`regions`      image, height, width, mask (RLE); several of an image, or none
`predictions`  expression, object, height, width, mask (RLE), row, column (of the peak), score,
               no_target (whether none is predicted), input_mask (RLE of the square that the model
               sees; null where that is not scored)
"""

import logging
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from stages.runtime.errors import InputError
from stages.storage.damage import damaged
from stages.storage.files import read_json, remove_abandoned, replacing
from stages.storage.parquet import open_parquet, parquet_writer, read_columns
from stages.storage.splits import SplitRule, in_split

log = logging.getLogger(__name__)

ROWS_AT_A_TIME = 10_000  # of a table that is written row by row

INT, TEXT, FLOAT = pa.int64(), pa.string(), pa.float32()
SCHEMAS: dict[str, pa.Schema] = {
    name: pa.schema(list(columns.items()))
    for name, columns in {
        "images": {"image": INT, "file": TEXT, "width": pa.int32(), "height": pa.int32()},
        "objects": {
            "object": INT,
            "image": INT,
            "split": TEXT,
            "name": TEXT,
            "category": TEXT,
            "boxes": pa.list_(pa.list_(FLOAT)),
            "mask": TEXT,
            "no_target": pa.bool_(),
        },
        "expressions": {
            "expression": INT,
            "object": INT,
            "text": TEXT,
            "kind": TEXT,
            "raw": TEXT,
        },
        "maps": {
            "object": INT,
            "expression": INT,
            "height": pa.int16(),
            "width": pa.int16(),
            "input_size": pa.int32(),
            "grid": pa.binary(),
            "scores": pa.list_(FLOAT),
        },
        "labels": {
            "object": INT,
            "height": pa.int32(),
            "width": pa.int32(),
            "foreground": TEXT,
            "ignore": TEXT,
        },
        "masks": {
            "object": INT,
            "height": pa.int32(),
            "width": pa.int32(),
            "mask": TEXT,
            "score": FLOAT,
        },
        "regions": {
            "image": INT,
            "height": pa.int32(),
            "width": pa.int32(),
            "mask": TEXT,
        },
        "predictions": {
            "expression": INT,
            "object": INT,
            "height": pa.int32(),
            "width": pa.int32(),
            "mask": TEXT,
            "row": pa.int32(),
            "column": pa.int32(),
            "score": FLOAT,
            "no_target": pa.bool_(),
            "input_mask": TEXT,
        },
    }.items()
}


class TableWriter:
    """Writes rows of one of the table kinds above, and keeps few of them in memory."""

    def __init__(self, path: Path, kind: str) -> None:
        self.schema, self.rows = SCHEMAS[kind], list[Mapping[str, Any]]()
        self.file = parquet_writer(path, self.schema)

    def __enter__(self) -> "TableWriter":
        return self

    def __exit__(self, kind: type[BaseException] | None, *error: object) -> None:
        if kind is None:
            self._flush()
        self.file.close()

    def add(self, row: Mapping[str, Any]) -> None:
        self.rows.append(row)
        if len(self.rows) == ROWS_AT_A_TIME:
            self._flush()

    def _flush(self) -> None:
        self.file.write_table(pa.Table.from_pylist(self.rows, schema=self.schema))
        self.rows = []


def write_table(path: Path, kind: str, rows: Iterable[Mapping[str, Any]] | pd.DataFrame) -> None:
    """Write rows of one of the table kinds above; nothing is left behind on failure."""
    remove_abandoned(path)
    with replacing(path) as temporary:
        if isinstance(rows, pd.DataFrame):
            schema = SCHEMAS[kind]
            table = pa.Table.from_pandas(rows[schema.names], schema=schema, preserve_index=False)
            with parquet_writer(temporary, schema) as file:
                file.write_table(table)
            return
        with TableWriter(temporary, kind) as writer:
            for row in rows:
                writer.add(row)


def read_table(
    kind: str, paths: Path | Sequence[Path], columns: Sequence[str] | None = None
) -> pd.DataFrame:
    """All rows of the shards of one table, in order, with all columns or some of them.

    Raises InputError that names a file of another kind, or a damaged one.
    """
    shards = [paths] if isinstance(paths, Path) else list(paths)
    tables = []
    for path in shards:
        with open_parquet(path) as file:
            _check_schema(file.schema_arrow, kind, path)
            tables.append(read_columns(file, path, columns))
    return pa.concat_tables(tables).to_pandas()


def _check_schema(schema: pa.Schema, kind: str, path: Path) -> None:
    needed = SCHEMAS[kind]
    if schema.names != needed.names:
        raise InputError(f"{path}: columns {schema.names}; needed a table of {kind}")
    if not schema.equals(needed):
        other = next(column for column in needed if schema.field(column.name) != column)
        raise damaged(path, f"{other.name} is {schema.field(other.name).type}, not {other.type}")


@dataclass(frozen=True)
class Samples:
    """Images, objects and expressions of a data set, or of a part of it; ids are kept."""

    images: pd.DataFrame
    objects: pd.DataFrame
    expressions: pd.DataFrame
    split_rule: SplitRule = "exact"

    def split(self, name: str) -> "Samples":
        """The objects of one split, with their images and expressions."""
        splits = self.objects.split.unique()
        chosen = self.objects[
            self.objects.split.isin(
                [split for split in splits if in_split(split, name, self.split_rule)]
            )
        ]
        if chosen.empty:
            present = ", ".join(sorted(splits))
            raise InputError(f"no object is in split {name!r}; splits of this data set: {present}")
        return self.of(chosen)

    def of(self, objects: pd.DataFrame) -> "Samples":
        """Some of the objects, with their images and expressions."""
        return Samples(
            self.images[self.images.image.isin(objects.image)],
            objects,
            self.expressions[self.expressions.object.isin(objects.object)],
            self.split_rule,
        )


def sample_files(samples: Path) -> list[Path]:
    """The tables that lie beside `samples` (samples.json), or in that folder."""
    folder = samples if samples.is_dir() else samples.parent
    return [folder / f"{kind}.parquet" for kind in ("images", "objects", "expressions")]


def read_samples(samples: Path) -> Samples:
    """All samples of a data set, by its samples.json."""
    images, objects, expressions = sample_files(samples)
    absent = next((path for path in (images, objects, expressions) if not path.is_file()), None)
    if absent is not None and samples.is_file():
        raise InputError(
            f"{absent}: not there; delete {samples.name} beside it and run the same command again:"
            " the step prepare makes both anew"
        )
    return Samples(
        read_table("images", images),
        read_table("objects", objects),
        read_table("expressions", expressions),
        _split_rule(samples / "samples.json" if samples.is_dir() else samples),
    )


def _split_rule(samples: Path) -> SplitRule:
    """As `prepare` wrote it; tables that stand alone have names to be matched exactly."""
    rule: SplitRule = read_json(samples)["split_rule"] if samples.is_file() else "exact"
    return rule


def write_samples(folder: Path, samples: Samples) -> None:
    write_table(folder / "images.parquet", "images", samples.images)
    write_table(folder / "objects.parquet", "objects", samples.objects)
    write_table(folder / "expressions.parquet", "expressions", samples.expressions)


def count_samples(folder: Path, rule: SplitRule) -> dict[str, dict[str, int]]:
    """The number of images, objects, ... of each split of a folder's tables; logged, too."""
    _, objects, expressions = sample_files(folder)
    tables = []
    with open_parquet(objects) as file, open_parquet(expressions) as texts:
        counts = np.zeros(file.metadata.num_rows, np.int64)  # expressions of each object
        for batch in texts.iter_batches(columns=["object"]):
            np.add.at(counts, batch["object"].to_numpy(), 1)
        for batch in file.iter_batches(columns=["object", "image", "split", "mask", "no_target"]):
            rows = batch.to_pandas()
            tables.append(
                rows.assign(
                    mask=rows["mask"].notna(),
                    expressions=counts[rows["object"]],
                    split=rows["split"].map(sys.intern),
                )
            )
    return _count_splits(pd.concat(tables), rule)


def _count_splits(objects: pd.DataFrame, rule: SplitRule) -> dict[str, dict[str, int]]:
    counts = {}
    for name in objects["split"].unique():
        chosen = objects[[in_split(split, name, rule) for split in objects["split"]]]
        counts[name] = {
            "images": chosen["image"].nunique(),
            "objects": len(chosen),
            "expressions": int(chosen["expressions"].sum()),
            "masks": int(chosen["mask"].sum()),
            "no_target": int(chosen["no_target"].sum()),
        }
        log.info("%s: %s", name, ", ".join(f"{n} {kind}" for kind, n in counts[name].items()))
    return counts


@dataclass(frozen=True)
class ResponseMap:
    """The chosen response of one object, at low resolution, before relu and upsampling."""

    expression: int
    grid: NDArray[np.float32]  # (h, w)
    input_size: int  # pixels a side of the network's input


def map_row(object_id: int, response: ResponseMap, scores: Sequence[float]) -> dict[str, Any]:
    """A row of a `maps` table: an object's map, and the scores of all its expressions."""
    height, width = response.grid.shape
    return {
        "object": object_id,
        "expression": response.expression,
        "height": height,
        "width": width,
        "input_size": response.input_size,
        "grid": np.ascontiguousarray(response.grid, dtype="<f4").tobytes(),
        "scores": list(scores),
    }


def read_maps(paths: Path | Sequence[Path]) -> dict[int, ResponseMap]:
    """The response map of each object."""
    maps = {}
    for row in read_table("maps", paths).itertuples():
        grid = np.frombuffer(row.grid, dtype="<f4").reshape(row.height, row.width)
        maps[int(row.object)] = ResponseMap(
            int(row.expression), grid.astype(np.float32), int(row.input_size)
        )
    return maps
