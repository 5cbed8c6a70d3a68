"""COCO's run lengths from outside, checked before pycocotools draws them.

pycocotools believes them: runs that do not fill the mask leave pixels as they were in memory.
"""

from collections.abc import Mapping, Sequence
from typing import Any

# Of COCO's text: 6 bits a character from "0" on, five of the number and one that says it goes on.
BASE, BITS, CONTINUES, SIGN = 48, 5, 0x20, 0x10
LONGEST = 7  # characters of one number: 35 bits


def require_run_lengths(run_lengths: Mapping[str, Any], height: int, width: int) -> None:
    """Raises ValueError unless {size, counts} fills a mask (height, width) exactly."""
    size, counts = run_lengths.get("size"), run_lengths.get("counts")
    if not isinstance(counts, str | bytes | list):
        raise ValueError("no COCO segmentation (run lengths need counts)")
    if not isinstance(size, list | tuple) or len(size) != 2:
        raise ValueError("no COCO segmentation (run lengths need size: [height, width])")
    if tuple(size) != (height, width):
        shown = " x ".join(str(side)[:20] for side in reversed(size))
        raise ValueError(f"of {shown} pixels")
    runs: Sequence[Any] = counts if isinstance(counts, list) else read_counts(counts)
    if not all(type(run) is int and run >= 0 for run in runs):
        raise ValueError("run lengths that are no whole numbers from 0 on")
    total = sum(runs)
    if total != height * width:
        raise ValueError(
            f"run lengths sum to {total:,}, needed {height * width:,} ({width} x {height})"
        )


def read_counts(text: str | bytes) -> list[int]:
    """The run lengths in COCO's compressed text (rleFrString of its maskApi.c).

    From the fourth on, each number is the difference to the last but one. Raises ValueError for
    other characters and for a number that does not end.
    """
    try:
        content = text.encode("ascii") if isinstance(text, str) else bytes(text)
    except UnicodeEncodeError:
        raise ValueError("run lengths with characters that COCO's text does not have") from None
    runs: list[int] = []
    value = length = 0
    for character in content:
        code = character - BASE
        if not 0 <= code < 2 * CONTINUES:
            raise ValueError(f"run lengths with {chr(character)!r}, which COCO's text has not")
        value |= (code & 0x1F) << BITS * length
        length += 1
        if length > LONGEST:
            raise ValueError("run lengths with a number that is too long")
        if code & CONTINUES:
            continue
        if code & SIGN:
            value -= 1 << BITS * length
        runs.append(value + (runs[-2] if len(runs) > 2 else 0))
        value = length = 0
    if length:
        raise ValueError("run lengths that end within a number")
    return runs
