"""The LMDB files of the CRIS family (tools/folder2lmdb.py): images, masks and expressions.

A value is a pickle (CRIS), read by the same unpickler as REFER's, which only makes plain
containers; or pyarrow's `serialize` wrote it (ETRIS, DETRIS): see arrow_serialized.py.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lmdb

from stages.data.arrow_serialized import is_serialized, read_serialized
from stages.data.refer import load_plain
from stages.runtime.errors import InputError

NEEDED = {"img": bytes, "mask": bytes, "img_name": str, "sents": list}


def read_lmdb(path: Path) -> Iterator[dict[str, Any]]:
    """The records of a file, in order: img (bytes), mask (PNG bytes), img_name, seg_id, sents."""
    try:
        environment = lmdb.open(
            str(path), subdir=path.is_dir(), readonly=True, lock=False, readahead=False
        )
    except lmdb.Error as error:
        raise InputError(f"{path}: no LMDB of this version ({error})") from None
    with environment, environment.begin() as transaction:
        length = _value(transaction, "__len__", path)
        if type(length) is not int or length < 0:
            raise InputError(f"{path}: __len__ is {length!r}; needed the number of records")
        if transaction.get(str(length).encode()) is not None:
            raise InputError(f"{path}: __len__ is {length}; there are more records")
        for number in range(length):
            record = _value(transaction, str(number), path)
            for name, kind in NEEDED.items():
                if not isinstance(record, dict) or not isinstance(record.get(name), kind):
                    raise InputError(
                        f"{path}: record {number} has no {name} ({kind.__name__}); needed a file"
                        " of folder2lmdb.py"
                    )
            count = record.get("num_sents", len(record["sents"]))
            if count != len(record["sents"]):
                raise InputError(
                    f"{path}: record {number} has num_sents {count!r} and"
                    f" {len(record['sents'])} sents"
                )
            yield record


def _value(transaction: lmdb.Transaction, key: str, path: Path) -> Any:
    content = transaction.get(key.encode())
    if content is None:
        raise InputError(f"{path}: nothing under {key}; needed a file of folder2lmdb.py")
    value = bytes(content)
    try:
        return read_serialized(value) if is_serialized(value) else load_plain(value)
    except Exception as error:  # a damaged pickle can raise any exception
        raise InputError(
            f"{path}: {key} holds no plain containers ({error}); needed a file of folder2lmdb.py."
            " The same data are in the REFER files that it was made of (source: refer)"
        ) from None
