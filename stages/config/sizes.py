"""How many objects a split of a data set has, as far as its configuration tells.

How many jobs a pass is spread over, and whether images are kept resized, depends on it. What the
configuration does not tell is counted when the samples are prepared.
"""

import math
from collections.abc import Callable, Mapping
from pathlib import Path

from stages.config.datasets import DatasetConfig

REFSHAPES_OBJECTS_PER_IMAGE = 3.2  # 1,589 objects on the 500 train images of the default options
CHUNK = 1 << 24
# Above it images are resized once: of about 3,300 images, which 10,000 objects are on, 320 pixels a
# side fill the gigabyte that a training process keeps, and all others are decoded in each epoch.
MANY_OBJECTS = 10_000
OBJECTS_PER_SHARD = 5_000  # minutes of work for a job that needs seconds to start


def known_objects(name: str, split: str, datasets: Mapping[str, DatasetConfig]) -> int | None:
    """About how many objects a split has; None if its samples have to be counted.

    Generated ones: the images times the mean number of objects per image. Published ones: as
    published. Mixed ones: those of their members, before any is left out. A table whose rows all
    fit into one shard: its rows.
    """
    dataset = datasets[name]
    if dataset.source == "mix":
        return _mixed(dataset, split, datasets)
    if dataset.source == "refshapes":
        shapes = dataset.refshapes
        images = {"train": shapes.train_images, "val": shapes.val_images}
        return round(images.get(split, shapes.test_images) * REFSHAPES_OBJECTS_PER_IMAGE)
    if split in dataset.published:
        return dataset.published[split]
    if dataset.source == "table" and dataset.annotations and dataset.annotations.is_file():
        rows = _rows(dataset.annotations)
        return rows if rows is not None and rows <= OBJECTS_PER_SHARD else None
    return None


def _mixed(dataset: DatasetConfig, split: str, datasets: Mapping[str, DatasetConfig]) -> int | None:
    members = dataset.members
    if dataset.pooled or split == "train":
        counts = [known_objects(member, split, datasets) for member in members]
        return None if None in counts else sum(count or 0 for count in counts)
    owners = [member for member in members if split.startswith(f"{member}_")]
    if not owners:
        return None
    owner = max(owners, key=len)  # refcoco_val may be of refcoco, or of a member called refcoco_v
    return known_objects(owner, split.removeprefix(f"{owner}_"), datasets)


def keeps_images(option: str, count: Callable[[], int]) -> bool:
    """Whether images are resized once and kept (`cache_images`); `count` gives train objects."""
    return option == "always" or (option == "auto" and count() > MANY_OBJECTS)


def count_shards(objects: int) -> int:
    """Over how many jobs a pass over that many objects is spread."""
    return max(1, math.ceil(objects / OBJECTS_PER_SHARD))


def _rows(table: Path) -> int | None:
    """The rows of a table, by its line ends; None if it is no table: `prepare` says why."""
    if table.suffix == ".parquet":
        import pyarrow.parquet as pq  # takes longer than all of the configuration

        try:
            return int(pq.read_metadata(table).num_rows)
        except (OSError, ValueError):  # pyarrow's errors are among them
            return None
    with table.open("rb") as file:
        lines = sum(chunk.count(b"\n") for chunk in iter(lambda: file.read(CHUNK), b""))
        size = file.tell()
        if size:
            file.seek(size - 1)
            lines += file.read() != b"\n"  # the last line may have no end
    return max(lines - (table.suffix == ".csv"), 0)
