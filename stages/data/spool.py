"""Records on disk by key, for data that is read in one order and needed in another.

A spool is a temporary SQLite file. Keys and records can be anything that JSON can hold; the keys 1
and "1" are different.
"""

import json
import sqlite3
from collections.abc import Iterator
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any
from urllib.parse import quote

from stages.runtime.errors import InputError

# One process, and a file that is removed: no journal, no locks, no waiting for the disk.
SETUP = """
PRAGMA journal_mode = OFF;
PRAGMA synchronous = OFF;
PRAGMA cache_size = -16384;
CREATE TABLE keys (number INTEGER PRIMARY KEY, key TEXT UNIQUE);
CREATE TABLE records (number INTEGER PRIMARY KEY, owner INTEGER, content TEXT);
CREATE INDEX owners ON records (owner);
BEGIN;
"""


class Spool:
    """Several records for each key, in the order in which they were added."""

    def __init__(self, path: Path) -> None:
        """Creates the file anew; its folder must exist."""
        path.unlink(missing_ok=True)
        self.path = path
        self.num_keys = self.num_records = 0
        address = f"file:{quote(str(path.absolute()))}?nolock=1"
        self.connection = sqlite3.connect(address, uri=True, isolation_level=None)
        self.connection.executescript(SETUP)

    def __enter__(self) -> "Spool":
        return self

    def __exit__(self, *error: object) -> None:
        self.connection.close()

    def add(self, key: object, record: object) -> None:
        """Raises TypeError for what JSON cannot hold, InputError if the disk is full."""
        self.add_text(key, json.dumps(record))

    def add_text(self, key: object, text: str) -> None:
        """Add a record that is JSON already."""
        name = json.dumps(key)
        try:
            new = self.connection.execute("INSERT OR IGNORE INTO keys (key) VALUES (?)", (name,))
            self.num_keys += new.rowcount
            self.connection.execute(
                "INSERT INTO records (owner, content) SELECT number, ? FROM keys WHERE key = ?",
                (text, name),
            )
        except sqlite3.Error as error:
            raise InputError(
                f"{self.path}: {error}; needed room there for a copy of the annotations"
            ) from None
        self.num_records += 1

    def get(self, key: object) -> list[Any]:
        """The records of a key; an empty list for an unknown one."""
        rows = self.connection.execute(
            "SELECT content FROM keys JOIN records ON owner = keys.number WHERE key = ?"
            " ORDER BY records.number",
            (json.dumps(key),),
        )
        return [json.loads(content) for (content,) in rows]

    def __getitem__(self, key: object) -> Any:
        """The first record of a key."""
        records = self.get(key)
        if not records:
            raise KeyError(key)
        return records[0]

    def groups(self) -> Iterator[list[Any]]:
        """The records of each key, in the order of the first of them."""
        rows = self.connection.execute("SELECT owner, content FROM records ORDER BY owner, number")
        for _, group in groupby(rows, itemgetter(0)):
            yield [json.loads(content) for _, content in group]
