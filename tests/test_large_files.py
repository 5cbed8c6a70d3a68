"""What is read piece by piece is what would have been read whole."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.data import json_stream
from stages.data.json_stream import list_elements, named_lists
from stages.data.spool import Spool
from stages.storage.tables import read_table, write_table

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=6,
)
PIECES = pytest.mark.parametrize("piece", [1, 3, 1000])
QUICK = settings(max_examples=60, deadline=None, derandomize=True)


@pytest.fixture
def file(tmp_path: Path, piece: int, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(json_stream, "CHUNK", piece)
    return tmp_path / "large.json"


@PIECES
def test_the_elements_of_a_list_are_those_of_the_whole_file(file: Path) -> None:
    @QUICK
    @given(values=st.lists(VALUES, max_size=4), indent=st.sampled_from([None, 2]))
    def check(values: list[Any], indent: int | None) -> None:
        file.write_text(json.dumps(values, indent=indent, ensure_ascii=False), encoding="utf-8")
        assert list(list_elements(file)) == values

    check()


@PIECES
def test_the_lists_of_a_mapping_are_those_of_the_whole_file(file: Path) -> None:
    @QUICK
    @given(content=st.dictionaries(st.text(max_size=3), VALUES, max_size=4))
    def check(content: dict[str, Any]) -> None:
        file.write_text(json.dumps(content), encoding="utf-8")
        lists = {name: list(elements) for name, elements in named_lists(file)}
        expected = {name: value for name, value in content.items() if isinstance(value, list)}
        assert {name: [value for value, _ in each] for name, each in lists.items()} == expected
        assert all(json.loads(text) == value for each in lists.values() for value, text in each)

    check()


@PIECES
@pytest.mark.parametrize(
    "text", ["", "5", "[1", "[1 2]", "[1,]", "[1][2]", "[1}", "[[1 [2]]", '["a]', "{}", "[nul]"]
)
def test_what_is_no_list_is_refused(file: Path, text: str) -> None:
    file.write_text(text)
    with pytest.raises(ValueError):
        list(list_elements(file))


@PIECES
@pytest.mark.parametrize(
    "text", ["[]", '{"a": [1}', '{"a" [1]}', "{5: []}", '{"a": []', '{"a": []}x']
)
def test_what_is_no_mapping_is_refused(file: Path, text: str) -> None:
    file.write_text(text)
    with pytest.raises(ValueError):
        [list(elements) for _, elements in named_lists(file)]


@PIECES
def test_lists_that_are_not_asked_for_are_passed_over(file: Path) -> None:
    file.write_text('{"a": [1, 2], "b": {"c": [3]}, "d": [4]}')
    assert [name for name, _ in named_lists(file)] == ["a", "d"]


def test_a_spool_gives_records_by_key_and_keys_by_their_first_record(tmp_path: Path) -> None:
    with Spool(tmp_path / "spool") as spool:
        for key, record in [("b", 1), (("a", 2), {"x": None}), (1, 3), ("b", 4), ("1", 5)]:
            spool.add(key, record)
        assert list(spool.groups()) == [[1, 4], [{"x": None}], [3], [5]]
        assert spool["b"] == 1 and spool.get(["a", 2]) == [{"x": None}] and spool.get("c") == []
        assert (spool.num_keys, spool.num_records) == (4, 5)
        with pytest.raises(KeyError, match="c"):
            spool["c"]


def test_a_table_that_is_written_in_parts_is_read_as_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stages.storage.tables.ROWS_AT_A_TIME", 2)
    rows = [{"expression": n, "object": n // 2, "text": "x", "kind": None} for n in range(5)]
    write_table(tmp_path / "t.parquet", "expressions", iter(rows))
    assert read_table("expressions", tmp_path / "t.parquet").expression.tolist() == [0, 1, 2, 3, 4]
