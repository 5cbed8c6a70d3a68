"""Expressions as token ids: start, words, end, zeros.

Real CLIP models read open_clip's byte pairs, the small CLIP whole words. Either way the end token
has the highest id, because CLIP reads an expression's feature where the highest id is. The official
code cuts off the end token of an expression that is too long (TRIS dataset/ReferDataset.py): all of
these then share the feature of the start token. Here the end token is kept, unless
`clip.keep_end` is false.
"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from stages.config.encoders import ClipSource
from stages.runtime.errors import InputError
from stages.storage.files import read_json

WORD = re.compile(r"[^\W_]+")
START_MARK, END_MARK = "<start_of_text>", "<end_of_text>"
LONGEST = 77  # tokens that CLIP reads at most
SPECIAL = 4  # ids beside the words: padding 0, start 1, and unknown and end after the words


class Tokenizer(Protocol):
    """Texts to ids (T, L)."""

    def __call__(self, texts: Sequence[str]) -> Tensor: ...

    unknown: int  # the token of a word that says nothing

    @property
    def num_words(self) -> int | None:
        """The words that it knows, where it knows no others; None where it knows pieces."""

    def too_long(self, texts: Sequence[str]) -> list[int]:
        """Positions of the texts that are too long and are cut off."""

    def unknown_words(self, text: str) -> list[str]:
        """The words of a text that the model has never seen: to it they are all the same."""


class BytePairTokenizer:
    """CLIP's own tokenizer, from open_clip."""

    num_words: int | None = None  # any text is made of its pieces

    def __init__(self, context_length: int, keep_end: bool = True) -> None:
        self.context_length, self.keep_end = context_length, keep_end
        import open_clip  # takes seconds, which a tokenizer of words need not wait for

        self.tokenizer = open_clip.tokenizer.SimpleTokenizer()
        self.unknown = self.tokenizer.encode("something")[0]  # it has no token of its own for this

    def __call__(self, texts: Sequence[str]) -> Tensor:
        renamed = [_with_open_clip_names(text) for text in texts]
        if self.keep_end:
            return self.tokenizer(renamed, context_length=self.context_length)
        return self.tokenizer(renamed, context_length=LONGEST)[:, : self.context_length]

    def too_long(self, texts: Sequence[str]) -> list[int]:
        most = self.context_length - 2
        lengths = [len(self.tokenizer.encode(_with_open_clip_names(text))) for text in texts]
        return [number for number, length in enumerate(lengths) if length > most]

    def unknown_words(self, text: str) -> list[str]:
        return []


def _with_open_clip_names(text: str) -> str:
    # OpenAI's tokenizer reads its own marks in a text as marks; open_clip gave them other names.
    return text.replace("<|startoftext|>", START_MARK).replace("<|endoftext|>", END_MARK)


class WordTokenizer:
    """One id for each word of a vocabulary, one for all other words."""

    def __init__(
        self, vocabulary: Sequence[str], context_length: int, keep_end: bool = True
    ) -> None:
        self.context_length, self.keep_end = context_length, keep_end
        self.ids = {word: number for number, word in enumerate(vocabulary, start=2)}
        self.num_words = len(self.ids)
        self.start, self.unknown, self.end = 1, len(vocabulary) + 2, len(vocabulary) + 3

    def __call__(self, texts: Sequence[str]) -> Tensor:
        tokens = torch.zeros(len(texts), self.context_length, dtype=torch.int64)
        for row, text in enumerate(texts):
            words = [self.ids.get(word, self.unknown) for word in split_words(text)]
            kept = words[: self.context_length - 2] if self.keep_end else words
            ids = [self.start, *kept, self.end][: self.context_length]
            tokens[row, : len(ids)] = torch.tensor(ids)
        return tokens

    def too_long(self, texts: Sequence[str]) -> list[int]:
        most = self.context_length - 2
        return [n for n, text in enumerate(texts) if len(split_words(text)) > most]

    def unknown_words(self, text: str) -> list[str]:
        return list(dict.fromkeys(word for word in split_words(text) if word not in self.ids))


def split_words(text: str) -> list[str]:
    """Lower-case words of letters and digits."""
    return WORD.findall(text.lower())


def load_tokenizer(source: ClipSource) -> Tokenizer:
    """The tokenizer of a CLIP: of words if its description has a vocabulary, else of byte pairs."""
    if not source.model.endswith(".json"):
        return BytePairTokenizer(source.context_length, source.keep_end)
    if not Path(source.model).is_file():
        raise InputError(f"clip.model: no file {source.model}; needed the description of a CLIP")
    vocabulary = read_json(Path(source.model)).get("vocabulary")
    if vocabulary is None:
        return BytePairTokenizer(source.context_length, source.keep_end)
    return WordTokenizer(vocabulary, source.context_length, source.keep_end)
