"""What a page links to: images of every expression, and masks in the formats of other tools."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from stages.storage.files import read_json


def file_rows(links: Mapping[str, str], records: Sequence[Path]) -> list[dict[str, str]]:
    """A row for each folder of a split; shards of one folder are one row.

    `links` are places in the folder of the page and what they lead to, as in steps.yaml.
    """
    names = {Path(place).name: name for name, place in links.items() if _is_taken_away(name)}
    counts: dict[tuple[str, str], dict[str, int]] = {}
    for path in records:
        record = read_json(path)
        whole = counts.setdefault((names[path.parent.name], record["split"]), {})
        for key in ("images", "expressions", "masks", "empty"):
            if key in record:
                whole[key] = whole.get(key, 0) + record[key]
    return [
        {
            "title": _title(name),
            "split": split,
            "href": f"{name}/{split}/",
            "content": _content(whole),
        }
        for (name, split), whole in counts.items()
    ]


def _is_taken_away(name: str) -> bool:
    return name == "visualized" or name.startswith("masks/")


def _title(name: str) -> str:
    if name == "visualized":
        return "image, mask, overlay and response map of every expression"
    stage, _, kind = name.removeprefix("masks/").partition("-")
    return f"masks of {stage.replace('_', ' ')}, {kind}"


def _content(counts: Mapping[str, int]) -> str:
    parts = [
        f"{counts[key]:,} {key}" for key in ("images", "expressions", "masks") if key in counts
    ]
    empty = counts.get("empty", 0)
    return ", ".join(parts) + (f" ({empty:,} empty)" if empty else "")
