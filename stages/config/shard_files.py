"""Which files of a pass over a split are there."""

from pathlib import Path

from stages.config.product import FILES


def complete_shards(folder: Path, kind: str, split: str) -> list[Path]:
    """The shards of a split in the folder of a product, in order; none unless all are there."""
    pattern = FILES[kind].format(split=split, shard="*", shards="*")
    present = {path.name for path in folder.glob(pattern)}
    for count in sorted({int(Path(name).stem.rpartition("-")[2]) for name in present}):
        names = [FILES[kind].format(split=split, shard=n, shards=count) for n in range(count)]
        if present.issuperset(names):
            return [folder / name for name in names]
    return []
