"""YAML is read by libyaml where that is safe, with the same values and errors as in Python."""

import pytest
import yaml

from stages.config.yaml_text import DEEPEST, _depth_at_most, _FastLoader, _Loader, parse_yaml
from tests.conftest import ROOT

FILES = sorted((ROOT / "configs").rglob("*.yaml"))


def test_all_configs_are_read_by_libyaml_with_the_values_of_python() -> None:
    assert len(FILES) > 100
    for path in FILES:
        text = path.read_text()
        assert _depth_at_most(text) < DEEPEST, path
        assert yaml.load(text, _FastLoader) == yaml.load(text, _Loader), path


@pytest.mark.parametrize("text", ["[", "{a: ", "- ", "? ", "a:\n"])
def test_a_text_that_nests_deeply_ends_with_a_line(text: str) -> None:
    if text.endswith("\n"):
        deep = "".join(" " * depth + text for depth in range(5000))
    else:
        deep = text * 50_000
    with pytest.raises(ValueError, match="not YAML"):
        parse_yaml(deep)


def test_an_error_shows_its_place_and_text() -> None:
    with pytest.raises(ValueError, match=r"line 2, column 4.* b: \[1 \^ expected"):
        parse_yaml("a: 1\nb: [1\nc: 2\n")
