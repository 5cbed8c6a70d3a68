"""BERT's word pieces of a vocabulary file, by the tokenizers library.

As in official GRES/ReLA (gres_model/data/dataset_mappers/refcoco_mapper.py), an expression that is
too long is cut off and loses its end token [SEP].
"""

from collections.abc import Sequence
from pathlib import Path

import torch
from tokenizers import Tokenizer as Pieces
from tokenizers.models import WordPiece
from tokenizers.normalizers import BertNormalizer
from tokenizers.pre_tokenizers import BertPreTokenizer
from torch import Tensor

from stages.config.encoders import ClipSource
from stages.config.section import Section
from stages.config.segmentors import RelaOptions
from stages.data.text import Tokenizer, load_tokenizer
from stages.runtime.errors import InputError

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]")


class WordPieceTokenizer:
    """Lower-case pieces of words between [CLS] and [SEP], then zeros."""

    num_words: int | None = None  # most words are made of its pieces

    def __init__(self, vocabulary: Path, context_length: int = 20) -> None:
        """`vocabulary` has one piece a line; raises InputError for any other file."""
        ids = _read_vocabulary(vocabulary)
        self.context_length = context_length
        self.start, self.end, self.unknown = (ids[name] for name in ("[CLS]", "[SEP]", "[UNK]"))
        self.pieces = Pieces(WordPiece(ids, unk_token="[UNK]"))  # type: ignore[call-arg]
        self.pieces.normalizer = BertNormalizer(lowercase=True)
        self.pieces.pre_tokenizer = BertPreTokenizer()

    def __call__(self, texts: Sequence[str]) -> Tensor:
        tokens = torch.zeros(len(texts), self.context_length, dtype=torch.int64)
        for row, ids in enumerate(self._ids(texts)):
            cut = ids[: self.context_length]
            tokens[row, : len(cut)] = torch.tensor(cut)
        return tokens

    def too_long(self, texts: Sequence[str]) -> list[int]:
        return [n for n, ids in enumerate(self._ids(texts)) if len(ids) > self.context_length]

    def unknown_words(self, text: str) -> list[str]:
        encoding = self.pieces.encode(text, add_special_tokens=False)
        unknown = [
            text[start:end]
            for number, (start, end) in zip(encoding.ids, encoding.offsets, strict=True)
            if number == self.unknown
        ]
        return list(dict.fromkeys(unknown))

    def _ids(self, texts: Sequence[str]) -> list[list[int]]:
        encodings = self.pieces.encode_batch(list(texts), add_special_tokens=False)
        return [[self.start, *encoding.ids, self.end] for encoding in encodings]


def load_model_tokenizer(config: Section) -> Tokenizer:
    """The tokenizer of a model of these options: word pieces for BERT, else its CLIP's.

    A CLIP as it is has no options but its own.
    """
    clip = config if isinstance(config, ClipSource) else getattr(config, "clip", None)
    if isinstance(clip, ClipSource):
        return load_tokenizer(clip)
    assert isinstance(config, RelaOptions)
    if config.vocabulary is None:
        raise InputError("segmentor.vocabulary: none; needed bert-base-uncased's vocab.txt")
    return WordPieceTokenizer(config.vocabulary, config.context_length)


def _read_vocabulary(path: Path) -> dict[str, int]:
    if not path.is_file():
        raise InputError(f"{path}: no such file; needed bert-base-uncased's vocab.txt")
    try:
        pieces = path.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: no text ({error}); needed one piece of a word a line") from None
    ids = {piece: number for number, piece in enumerate(pieces)}
    missing = [token for token in SPECIAL if token not in ids]
    if missing:
        raise InputError(f"{path}: {missing[0]} is missing; needed BERT's vocabulary")
    if ids["[PAD]"] != 0:
        line = ids["[PAD]"] + 1
        raise InputError(
            f"{path}: [PAD] on line {line}; needed BERT's vocabulary, where it is first"
        )
    return ids
