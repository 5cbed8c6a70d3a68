"""What is known of a data set's size before any step ran."""

from pathlib import Path

import pandas as pd
import pytest

from stages.config.datasets import DatasetConfig, RefShapes
from stages.config.sizes import OBJECTS_PER_SHARD, known_objects

ROWS = [{"image": "a.jpg", "expression": "a cup"}, {"image": "b.jpg", "expression": "a dog"}]


def table(path: Path) -> DatasetConfig:
    return DatasetConfig(source="table", annotations=path)


def test_generated_data_have_about_three_objects_an_image() -> None:
    dataset = DatasetConfig(source="refshapes", refshapes=RefShapes(train_images=500))
    count = known_objects("one", "train", {"one": dataset})
    assert count == 1600  # it has 1,589


def test_published_counts_are_taken_as_they_are_each_for_its_split() -> None:
    dataset = DatasetConfig(source="refer", published={"train": 42404, "val": 3811})
    assert known_objects("one", "train", {"one": dataset}) == 42404
    assert known_objects("one", "val", {"one": dataset}) == 3811
    assert known_objects("one", "testA", {"one": dataset}) is None


def test_a_mix_is_the_sum_of_its_members_if_all_are_known() -> None:
    known = DatasetConfig(source="refer", published={"train": 5})
    other = DatasetConfig(source="refer", published={"train": 7})
    unknown = DatasetConfig(source="grefcoco")
    named = {"a": known, "b": other, "c": unknown}
    both = DatasetConfig(source="mix", members=("a", "b"))
    all_three = DatasetConfig(source="mix", members=("a", "b", "c"))
    assert known_objects("mix", "train", {**named, "mix": both}) == 12
    assert known_objects("mix", "train", {**named, "mix": all_three}) is None


def test_a_split_of_a_pooled_mix_is_the_sum_of_its_members() -> None:
    named = {
        "a": DatasetConfig(source="refer", published={"val": 5}),
        "b": DatasetConfig(source="refer", published={"val": 7}),
        "mix": DatasetConfig(source="mix", members=("a", "b"), pooled=True),
    }
    assert known_objects("mix", "val", named) == 12


def test_a_split_of_a_mix_is_that_of_its_member() -> None:
    named = {
        "a": DatasetConfig(source="refer", published={"val": 5}),
        "a_b": DatasetConfig(source="refer", published={"val": 7}),
        "mix": DatasetConfig(source="mix", members=("a", "a_b")),
    }
    assert known_objects("mix", "a_val", named) == 5
    assert known_objects("mix", "a_b_val", named) == 7
    assert known_objects("mix", "val", named) is None


def test_a_table_of_more_rows_than_a_shard_has_is_counted_when_it_is_prepared(
    tmp_path: Path,
) -> None:
    rows = "a.jpg,a cup\n" * (OBJECTS_PER_SHARD + 1)
    (tmp_path / "mine.csv").write_text(f"image,expression\n{rows}")
    assert known_objects("one", "train", {"one": table(tmp_path / "mine.csv")}) is None


@pytest.mark.parametrize("end", ["", "\n"])
def test_a_table_of_text_has_a_row_a_line(tmp_path: Path, end: str) -> None:
    csv, lines = tmp_path / "mine.csv", tmp_path / "mine.jsonl"
    csv.write_text("image,expression\na.jpg,a cup\nb.jpg,a dog" + end)
    lines.write_text('{"image": "a.jpg"}\n{"image": "b.jpg"}' + end)
    assert known_objects("one", "train", {"one": table(csv)}) == 2
    assert known_objects("one", "train", {"one": table(lines)}) == 2


def test_a_parquet_table_says_its_rows(tmp_path: Path) -> None:
    pd.DataFrame(ROWS).to_parquet(tmp_path / "mine.parquet")
    assert known_objects("one", "train", {"one": table(tmp_path / "mine.parquet")}) == 2


def test_what_is_absent_or_no_table_is_unknown_and_no_error(tmp_path: Path) -> None:
    (tmp_path / "empty.csv").write_text("")
    (tmp_path / "no.parquet").write_text("text")
    assert known_objects("one", "train", {"one": table(tmp_path / "no.csv")}) is None
    assert known_objects("one", "train", {"one": table(tmp_path / "no.parquet")}) is None
    assert known_objects("one", "train", {"one": table(tmp_path / "empty.csv")}) == 0
    assert known_objects("one", "train", {"one": DatasetConfig(source="lmdb")}) is None
