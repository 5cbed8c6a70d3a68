"""Tokens of the CRIS family against the official tokenizers."""

import json
from typing import Any

import pytest

from stages.data.text import BytePairTokenizer
from tests.parity.golden import cases


def _texts() -> list[tuple[str, dict[str, Any]]]:
    """Each text with its ids by length."""
    detris = json.loads(cases("data", "detris_tokens")[0].read_text())
    cris = json.loads(cases("cris", "tokenizer")[0].read_text())
    return [*detris.items(), *((row["text"], row) for row in cris["tokens"])]


@pytest.mark.parametrize("length", [17, 22, 77])
def test_expressions_have_the_official_tokens(length: int) -> None:
    rows = [(text, ids[str(length)]) for text, ids in _texts() if str(length) in ids]
    tokens = BytePairTokenizer(length)([text for text, _ in rows])
    for (text, theirs), ours in zip(rows, tokens.tolist(), strict=True):
        assert ours == theirs, text
