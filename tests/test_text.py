"""Tokens: the end is found by arg-max, long expressions keep it, unknown words are one word."""

import json
from pathlib import Path

import pytest
import torch

from stages.config.encoders import ClipSource
from stages.data.text import Tokenizer, WordTokenizer, load_tokenizer
from stages.runtime.errors import InputError

WORDS = ["blue", "circle", "red", "the"]
LONG = " ".join(["red"] * 30)


@pytest.fixture(params=["words", "byte pairs"])
def tokenizer(request: pytest.FixtureRequest, tmp_path: Path) -> Tokenizer:
    if request.param == "byte pairs":
        return load_tokenizer(ClipSource(model="RN50", context_length=8))
    (tmp_path / "small.json").write_text(json.dumps({"vocabulary": WORDS}))
    return load_tokenizer(ClipSource(model=str(tmp_path / "small.json"), context_length=8))


def test_every_expression_ends_with_the_highest_id_then_zeros(tokenizer: Tokenizer) -> None:
    tokens = tokenizer(["red circle", "the blue circle", LONG])
    assert tokens.shape == (3, 8) and tokens.dtype == torch.int64
    ends = tokens.argmax(dim=1)
    assert ends.tolist() == [3, 4, 7]
    assert len(tokens[range(3), ends].unique()) == 1 and tokens.max() == tokens[0, 3]
    assert not tokens[0, 4:].any() and not tokens[1, 5:].any()


def test_expressions_that_were_cut_are_counted(tokenizer: Tokenizer) -> None:
    assert tokenizer.too_long(["red", LONG, "blue " * 6, "blue " * 7]) == [1, 3]


def test_the_first_words_of_a_cut_expression_stay(tokenizer: Tokenizer) -> None:
    long, short = tokenizer([LONG, " ".join(["red"] * 6)])
    assert torch.equal(long, short)


def test_a_cut_expression_loses_its_end_if_asked_as_in_the_official_code() -> None:
    """ReferDataset.py: clip.tokenize(text)[:, :20], so that the start has the highest id."""
    cut = load_tokenizer(ClipSource(model="RN50", context_length=8, keep_end=False))
    kept = load_tokenizer(ClipSource(model="RN50", context_length=8))
    long, other, short = cut([LONG, "blue " * 7, "blue " * 6])
    assert long[0] == long.max() == other[0] == other.max() == 49406
    assert torch.equal(short, kept(["blue " * 6])[0]) and short.argmax() == 7
    assert torch.equal(long[:7], kept([LONG])[0, :7]) and long[7] == long[6]


def test_case_and_surrounding_blanks_do_not_matter(tokenizer: Tokenizer) -> None:
    one, other = tokenizer(["the red circle", "  The  RED circle "])
    assert torch.equal(one, other)


def test_unknown_words_share_one_id_below_the_end() -> None:
    words = WordTokenizer(WORDS, 6)
    assert words(["a red dog"]).tolist() == [[1, 6, 4, 6, 7, 0]]
    assert words(["red, circle!"]).tolist() == [[1, 4, 3, 7, 0, 0]]


def test_no_text_at_all_gives_no_rows(tokenizer: Tokenizer) -> None:
    assert tokenizer([]).shape == (0, 8)


def test_a_missing_description_is_named() -> None:
    with pytest.raises(InputError, match=r"no file nowhere\.json"):
        load_tokenizer(ClipSource(model="nowhere.json"))
