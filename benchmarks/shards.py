"""What a job of one shard pays for the size of its data set, before it computes anything.

    python -m benchmarks.shards [--objects 1000 10000 100000 1000000]

Each size is measured in a process of its own, on samples that are generated: three objects an
image, three expressions an object, masks of some hundred bytes. The shard has 5,000 objects.
"""

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pandas as pd

from stages.config.sizes import count_shards
from stages.data.shards import take_shard
from stages.storage.tables import Samples, read_samples, write_samples

MASK = "Q" * 300  # as long as the run lengths of a published mask are


def generated(objects: int) -> Samples:
    """Samples of that many objects in one split."""
    images = pd.DataFrame({"image": range(objects // 3 + 1)})
    images = images.assign(file="images/train2014/COCO_train2014_000000.jpg", width=640, height=480)
    rows = pd.DataFrame({"object": range(objects)})
    rows = rows.assign(
        image=rows.object // 3,
        split="train",
        name=rows.object.astype(str),
        category="person",
        boxes=[[[1.0, 2.0, 3.0, 4.0]]] * objects,
        mask=MASK,
        no_target=False,
    )
    texts = pd.DataFrame({"expression": range(3 * objects)})
    texts = texts.assign(object=texts.expression // 3, text="the man on the right", kind=None)
    return Samples(images, rows, texts)


def measure(folder: Path, objects: int) -> str:
    """Seconds and memory of reading one shard, in this process."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.perf_counter()
    samples = take_shard(read_samples(folder).split("train"), 0, count_shards(objects), 64)
    seconds = time.perf_counter() - start
    memory = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    count = count_shards(objects)
    return f"{objects:12,d}{count:8d}{len(samples.objects):10,d}{seconds:9.2f}{memory:10.0f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--objects", nargs="+", type=int, default=[10**n for n in range(3, 7)])
    parser.add_argument("--measure", type=Path)
    options = parser.parse_args()
    if options.measure:
        print(measure(options.measure, options.objects[0]))
        return
    print("     objects  shards  in this     s        MiB")
    for objects in options.objects:
        with tempfile.TemporaryDirectory() as folder:
            write_samples(Path(folder), generated(objects))
            arguments = ["--objects", str(objects), "--measure", folder]
            subprocess.run([sys.executable, "-m", "benchmarks.shards", *arguments], check=True)


if __name__ == "__main__":
    main()
