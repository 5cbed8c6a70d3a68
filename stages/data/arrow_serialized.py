"""Values that pyarrow's `serialize` wrote (pyarrow 0.8 to 13), read without pyarrow's own reader.

Such a value is four counters (tensors, sparse tensors, arrays, buffers), which are zero for plain
containers, and an Arrow stream of one row. Its type is a union of the kinds of values: null,
numbers, texts, bytes, lists, and dictionaries as lists of keys and values. Objects of other classes
were dictionaries with the key `_pytype_`, mostly with a pickle in them: these are refused, so that
nothing is unpickled.
"""

from typing import Any

import pyarrow as pa

COUNTERS = bytes(16)
CLASS = "_pytype_"  # the key of a dictionary that stands for an object


def is_serialized(content: bytes) -> bool:
    """Whether a value looks like one of pyarrow's; a pickle never does."""
    return content.startswith(COUNTERS)


def read_serialized(content: bytes) -> Any:
    """The plain containers of a value. Raises ValueError for any other one."""
    try:
        stream = pa.ipc.open_stream(pa.py_buffer(content).slice(len(COUNTERS)))
        batch = stream.read_next_batch()
        batch.validate(full=True)
    except (pa.ArrowException, StopIteration, OSError) as error:
        raise ValueError(f"no Arrow stream: {error}") from None
    if batch.num_rows != 1 or batch.num_columns != 1:
        raise ValueError(f"{batch.num_rows} rows, {batch.num_columns} columns; needed one of each")
    return _plain(batch.column(0)[0].as_py())


def _plain(value: Any) -> Any:
    """Lists of keys and values as the dictionaries that they were."""
    if not isinstance(value, list):
        return value
    if not value or not isinstance(value[0], dict):
        return [_plain(each) for each in value]
    try:
        result = {_plain(each["keys"]): _plain(each["vals"]) for each in value}
    except (KeyError, TypeError) as error:
        raise ValueError(f"no dictionary of keys and values: {error}") from None
    if CLASS in result:
        raise ValueError(f"it asks for {result[CLASS]}")
    return result
