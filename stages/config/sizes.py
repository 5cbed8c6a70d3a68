"""How many objects a data set has to train on, as far as its configuration tells.

What depends on it (how many jobs a pass is spread over, whether images are kept resized) is decided
when the workflow is parsed, so it is a rough figure and reads no more than the lines of a table.
"""

import math
from collections.abc import Mapping
from pathlib import Path

from stages.config.datasets import DatasetConfig

REFSHAPES_OBJECTS_PER_IMAGE = 3.2  # 1,589 objects on the 500 train images of the default options
CHUNK = 1 << 24
# Above it images are resized once: of about 3,300 images, which 10,000 objects are on, 320 pixels a
# side fill the gigabyte that a training process keeps, and all others are decoded in each epoch.
MANY_OBJECTS = 10_000
OBJECTS_PER_SHARD = 5_000  # minutes of work for a job that needs seconds to start


def expected_objects(name: str, datasets: Mapping[str, DatasetConfig]) -> int | None:
    """About how many objects the train split of a data set has; None if nothing tells.

    Generated ones: the images times the mean number of objects an image. Published ones: as
    published. Tables: their rows, which is too many where an object has several expressions, or
    where rows are of other splits. Mixed ones: the sum of their members, before what is left out.
    """
    dataset = datasets[name]
    if dataset.source == "mix":
        members = [expected_objects(member, datasets) for member in dataset.members]
        return None if None in members else sum(count or 0 for count in members)
    if dataset.source == "refshapes":
        return round(dataset.refshapes.train_images * REFSHAPES_OBJECTS_PER_IMAGE)
    if "train" in dataset.published:
        return dataset.published["train"]
    if dataset.source == "table" and dataset.annotations and dataset.annotations.is_file():
        return _rows(dataset.annotations)
    return None


def count_shards(objects: int | None) -> int:
    """Over how many jobs a pass over that many objects is spread; one if nobody knows."""
    return max(1, math.ceil((objects or 0) / OBJECTS_PER_SHARD))


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
