"""Parquet files with a checksum of each page, which is compared when the page is read.

The checksums do not cover the headers of pages and the footer: of these, the number of rows is
compared with that of the row groups, and the columns with a list of their names and types. Files
without checksums, of earlier versions, are read too.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from stages.storage.damage import damaged
from stages.storage.files import replacing

COLUMNS = b"columns"  # in the metadata of a schema


def parquet_writer(path: Path, schema: pa.Schema) -> pq.ParquetWriter:
    """A writer of tables of this schema."""
    return pq.ParquetWriter(path, schema, compression="zstd", write_page_checksum=True)


def write_parquet(path: Path, table: pd.DataFrame) -> None:
    """Write a table of any columns; nothing is left behind on failure."""
    content = pa.Table.from_pandas(table, preserve_index=False)
    content = content.replace_schema_metadata({COLUMNS: _columns(content.schema)})
    with replacing(path) as temporary, parquet_writer(temporary, content.schema) as writer:
        writer.write_table(content)


@contextmanager
def open_parquet(path: Path) -> Iterator[pq.ParquetFile]:
    """A file to be read from. Raises InputError if it is damaged, also while it is read."""
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            about = file.metadata
            groups = sum(about.row_group(index).num_rows for index in range(about.num_row_groups))
            if groups != about.num_rows:
                raise damaged(path, f"{about.num_rows} rows, {groups} in its row groups")
            schema = file.schema_arrow
            if (schema.metadata or {}).get(COLUMNS, _columns(schema)) != _columns(schema):
                raise damaged(path, "other columns than were written")
            yield file
    except (pa.ArrowException, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:  # no such file, for example
            raise
        raise damaged(path, error) from None


def read_parquet(path: Path, columns: Sequence[str] | None = None) -> pd.DataFrame:
    """A whole table, or some of its columns."""
    with open_parquet(path) as file:
        return read_columns(file, path, columns).to_pandas()


def read_columns(file: pq.ParquetFile, path: Path, columns: Sequence[str] | None) -> pa.Table:
    """The columns of an opened file, all of them if None."""
    table = file.read(columns=columns)
    if table.num_rows != file.metadata.num_rows:
        raise damaged(path, f"{table.num_rows} of {file.metadata.num_rows} rows can be read")
    return table


def _columns(schema: pa.Schema) -> bytes:
    return ", ".join(f"{column.name}: {column.type}" for column in schema).encode()
