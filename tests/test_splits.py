"""Which splits samples have, and what is said of others."""

import json
from pathlib import Path

import pytest

from stages.storage.splits import missing_split


@pytest.mark.parametrize(
    ("rule", "wanted", "message"),
    [
        ("exact", ["train"], None),
        ("exact", ["train", "vall"], "'vall' is not in the data; did you mean val?"),
        ("exact", ["nope"], "'nope' is not in the data; known: train, val, testAB"),
        ("exact", ["testA"], "'testA' is not in the data; did you mean testAB?"),
        ("refer", ["testA", "testB", "test"], None),
    ],
)
def test_a_split_that_the_samples_do_not_have_is_told(
    tmp_path: Path, rule: str, wanted: list[str], message: str | None
) -> None:
    samples = tmp_path / "samples.json"
    splits = {name: {"objects": 1} for name in ("train", "val", "testAB")}
    samples.write_text(json.dumps({"splits": splits, "split_rule": rule}))
    assert missing_split(samples, wanted) == message
