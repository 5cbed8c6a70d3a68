"""What is known of a data set's size before any step ran."""

from pathlib import Path

import pandas as pd
import pytest

from stages.config.datasets import DatasetConfig, RefShapes
from stages.config.sizes import expected_objects

ROWS = [{"image": "a.jpg", "expression": "a cup"}, {"image": "b.jpg", "expression": "a dog"}]


def table(path: Path) -> DatasetConfig:
    return DatasetConfig(source="table", annotations=path)


def test_generated_data_have_about_three_objects_an_image() -> None:
    dataset = DatasetConfig(source="refshapes", refshapes=RefShapes(train_images=500))
    found = expected_objects("one", {"one": dataset})
    assert found == 1600  # it has 1,589


def test_published_counts_are_taken_as_they_are() -> None:
    dataset = DatasetConfig(source="refer", published={"train": 42404, "val": 3811})
    assert expected_objects("one", {"one": dataset}) == 42404


def test_a_mix_is_the_sum_of_its_members_if_all_are_known() -> None:
    known = DatasetConfig(source="refer", published={"train": 5})
    other = DatasetConfig(source="refer", published={"train": 7})
    unknown = DatasetConfig(source="grefcoco")
    named = {"a": known, "b": other, "c": unknown}
    both = DatasetConfig(source="mix", members=("a", "b"))
    all_three = DatasetConfig(source="mix", members=("a", "b", "c"))
    assert expected_objects("mix", {**named, "mix": both}) == 12
    assert expected_objects("mix", {**named, "mix": all_three}) is None


@pytest.mark.parametrize("end", ["", "\n"])
def test_a_table_of_text_has_a_row_a_line(tmp_path: Path, end: str) -> None:
    csv, lines = tmp_path / "mine.csv", tmp_path / "mine.jsonl"
    csv.write_text("image,expression\na.jpg,a cup\nb.jpg,a dog" + end)
    lines.write_text('{"image": "a.jpg"}\n{"image": "b.jpg"}' + end)
    assert expected_objects("one", {"one": table(csv)}) == 2
    assert expected_objects("one", {"one": table(lines)}) == 2


def test_a_parquet_table_says_its_rows(tmp_path: Path) -> None:
    pd.DataFrame(ROWS).to_parquet(tmp_path / "mine.parquet")
    assert expected_objects("one", {"one": table(tmp_path / "mine.parquet")}) == 2


def test_what_is_absent_or_no_table_is_unknown_and_no_error(tmp_path: Path) -> None:
    (tmp_path / "empty.csv").write_text("")
    (tmp_path / "no.parquet").write_text("text")
    assert expected_objects("one", {"one": table(tmp_path / "no.csv")}) is None
    assert expected_objects("one", {"one": table(tmp_path / "no.parquet")}) is None
    assert expected_objects("one", {"one": table(tmp_path / "empty.csv")}) == 0
    assert expected_objects("one", {"one": DatasetConfig(source="lmdb")}) is None
