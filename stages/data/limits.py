"""What a model cannot know, told before its masks are trusted."""

from collections.abc import Sequence

from stages.data.text import Tokenizer

MOST_SHOWN = 5  # words


def describe_limits(tokenizer: Tokenizer) -> str | None:
    """A line for a model whose encoder is the small CLIP; None for others.

    Only that has a vocabulary of whole words: it was trained on drawn shapes and their expressions.
    """
    if tokenizer.num_words is None:
        return None
    return (
        f"knows drawn shapes and {tokenizer.num_words} words only: no photographs, no other words"
    )


def unknown_in(texts: Sequence[str], tokenizer: Tokenizer) -> str | None:
    """A line for expressions with words that a model has never seen; None where there are none."""
    words: dict[str, None] = {}
    count = 0
    for text in texts:
        unknown = tokenizer.unknown_words(text)
        count += bool(unknown)
        words |= dict.fromkeys(unknown)
    if not count:
        return None
    shown = ", ".join(list(words)[:MOST_SHOWN]) + (", ..." if len(words) > MOST_SHOWN else "")
    return (
        f"{count:,} of {len(texts):,} expressions have words that the model does not know: {shown}"
    )
