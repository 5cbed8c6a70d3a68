"""The page of files: its columns are those of the tables, its lines of Python read a toy run."""

import re
from typing import Any

import pytest

from stages.storage.tables import SCHEMAS
from tests.conftest import ROOT, Toy

PAGE = (ROOT / "docs" / "files.md").read_text()


def test_the_columns_of_each_table_are_on_the_page_in_their_order() -> None:
    listed = re.findall(r"^Columns of `(\w+)`: ((?:.|\n)+?)(?:<br>|\n\n)", PAGE, re.MULTILINE)
    columns = {kind: re.findall(r"`(\w+)`", re.sub(r"\(.*?\)", "", text)) for kind, text in listed}
    assert columns == {kind: schema.names for kind, schema in SCHEMAS.items()}


@pytest.mark.workflow
def test_the_lines_of_python_read_the_files_of_a_run(
    toy: Toy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(toy.folder)
    lines = re.findall(r"^ {4}(.*)", PAGE.partition("## Looked into")[2], re.MULTILINE)
    read: dict[str, Any] = {}
    exec("\n".join(lines), read)
    size = (read["image"].height, read["image"].width)
    assert len(read["texts"]) > 0
    assert read["full"].shape == read["sure"].shape == read["left_open"].shape == size
    assert read["mask"].shape == size
    assert read["boundaries"].shape == read["to_center"].shape[1:]
