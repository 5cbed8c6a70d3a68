"""Two measurements of trainings side by side."""

import json
from pathlib import Path

from tests.command.conftest import Command


def write(path: Path, trained: float, memory: float) -> str:
    row = {"training": "cris", "items_per_second": trained, "memory_gib": memory}
    path.write_text(json.dumps({"device": "GPU", "torch": "2.11", "trainings": [row]}))
    return str(path)


def test_the_second_is_given_as_a_multiple_and_what_is_worse_is_marked(
    risflow: Command, tmp_path: Path
) -> None:
    files = [write(tmp_path / "a.json", 100.0, 30.0), write(tmp_path / "b.json", 150.0, 40.0)]
    done = risflow("compare-bench", *files)
    assert done.exit_code == 0, done.output
    trained, memory = (line.split() for line in done.stdout.splitlines()[1:])
    assert trained == ["cris", "items_per_second", "100.000", "150.000", "1.50"]
    assert memory == ["cris", "memory_gib", "30.000", "40.000", "1.33", "worse"]


def test_another_file_is_refused_in_one_line(risflow: Command, tmp_path: Path) -> None:
    other = tmp_path / "other.json"
    other.write_text("[1]")
    done = risflow("compare-bench", str(other), str(other))
    assert done.exit_code == 1
    assert "not a file of `make bench`" in done.stderr
