"""Time and memory of `prepare` on a data set of RefCOCO's size, and on one of several times that.

    python -m benchmarks.prepare [--times 1 10] [--sources table refer] [--picture 640x480]

20,000 images, 50,000 objects, 142,000 expressions. All pictures are links to one photograph, all
mask files of the table to one mask: each is decoded as often as different ones would be, but read
from the disk once. The refer source has a polygon for each object, of as many corners as COCO's.
"""

import argparse
import csv
import json
import os
import pickle
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from skimage import data

IMAGES, OBJECTS, EXPRESSIONS = 20_000, 50_000, 142_000
CORNERS = 30  # of a polygon: a mean annotation of COCO has about as many
LINKS = 30_000  # names that one file may have on any file system
WORDS = (
    "the",
    "left",
    "right",
    "man",
    "woman",
    "dog",
    "red",
    "small",
    "in",
    "front",
    "of",
    "shirt",
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--times", type=int, nargs="+", default=[1, 10])
    parser.add_argument("--sources", nargs="+", default=["table", "refer"])
    parser.add_argument("--picture", default="640x480")
    parser.add_argument("--folder", type=Path, default=None, help="where the data sets are made")
    options = parser.parse_args()
    width, height = map(int, options.picture.split("x"))
    print(f"one image decoded in {decoding(width, height):.2f} ms; {cores()} cores")
    print("source  times    images   objects   expressions   seconds  CPU seconds   peak MiB")
    for source in options.sources:
        for times in options.times:
            with tempfile.TemporaryDirectory(dir=options.folder) as made:
                MAKERS[source](Path(made), times, width, height)
                seconds, cpu_seconds, peak = prepare(Path(made), source)
            sizes = (IMAGES * times, OBJECTS * times, EXPRESSIONS * times)
            counts = "{:10,}{:10,}{:14,}".format(*sizes)
            costs = f"{seconds:10.1f}{cpu_seconds:13.1f}{peak:11,.0f}"
            print(f"{source:8}{times:5}{counts}{costs}", flush=True)


def cores() -> int:
    return len(os.sched_getaffinity(0))


def prepare(folder: Path, source: str) -> tuple[float, float, float]:
    """Seconds, CPU seconds and MiB of the step, as a process of its own."""
    config = {
        "source": source,
        "annotations": str(folder / "mine.csv" if source == "table" else folder),
        "images": str(folder / "images"),
        "split_by": "unc",
    }
    command = ["-m", "stages.prepare", "--samples", folder / "out/samples.json"]
    command += ["--workers", str(len(os.sched_getaffinity(0)))]
    start = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, *command, "--config", json.dumps(config)], stderr=subprocess.DEVNULL
    )
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"prepare of {source} failed")
    seconds = time.perf_counter() - start
    return seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024


def photograph(width: int, height: int) -> Image.Image:
    return Image.fromarray(data.astronaut()).resize((width, height))


def decoding(width: int, height: int, repeats: int = 50) -> float:
    """Milliseconds to decode the photograph in full, on one core."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "one.jpg"
        photograph(width, height).save(file, quality=90)
        start = time.perf_counter()
        for _ in range(repeats):
            with Image.open(file) as image:
                image.load()
    return (time.perf_counter() - start) / repeats * 1000


def link(picture: Image.Image, folder: Path, names: Iterator[str]) -> None:
    """One picture under many names."""
    folder.mkdir(exist_ok=True)
    for number, name in enumerate(names):
        if number % LINKS == 0:
            original = folder / name
            picture.save(original, quality=90)
        else:
            (folder / name).hardlink_to(original)


def expressions(target: int) -> list[str]:
    """Two or three texts about an object, all of them together as many as needed."""
    first = target * EXPRESSIONS // OBJECTS
    last = (target + 1) * EXPRESSIONS // OBJECTS
    draw = random.Random(target)
    return [f"{' '.join(draw.choices(WORDS, k=4))} {number}" for number in range(first, last)]


def image_of(target: int, times: int) -> int:
    """Objects of an image lie apart, as the refs of RefCOCO do."""
    return target % (IMAGES * times)


def make_table(folder: Path, times: int, width: int, height: int) -> None:
    images = (f"{number}.jpg" for number in range(IMAGES * times))
    link(photograph(width, height), folder / "images", images)
    mask = np.zeros((height, width), np.uint8)
    mask[height // 4 : height // 2, width // 4 : width // 2] = 255
    masks = (f"{number}.png" for number in range(OBJECTS * times))
    link(Image.fromarray(mask), folder / "images", masks)
    with (folder / "mine.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["image", "expression", "split", "object", "mask"])
        for target in range(OBJECTS * times):
            for text in expressions(target):
                image = f"{image_of(target, times)}.jpg"
                writer.writerow([image, text, "train", f"object {target}", f"{target}.png"])


def make_refer(folder: Path, times: int, width: int, height: int) -> None:
    images = (f"{number}.jpg" for number in range(IMAGES * times))
    link(photograph(width, height), folder / "images", images)
    size = {"width": width, "height": height}
    with (folder / "instances.json").open("w") as file:
        file.write('{"categories": [{"id": 1, "name": "person"}], "images": [')
        for number in range(IMAGES * times):
            entry = {"id": number, "file_name": f"{number}.jpg", **size}
            file.write(", " * (number > 0) + json.dumps(entry))
        file.write('], "annotations": [')
        for number in range(OBJECTS * times):
            entry = annotation(number, image_of(number, times), width, height)
            file.write(", " * (number > 0) + json.dumps(entry))
        file.write("]}")
    refs = [ref(target, times) for target in range(OBJECTS * times)]
    (folder / "refs(unc).p").write_bytes(pickle.dumps(refs, protocol=2))


def annotation(number: int, image: int, width: int, height: int) -> dict[str, Any]:
    """A star around the middle of the image."""
    draw = np.random.default_rng(number)
    angles = np.sort(draw.uniform(0, 2 * np.pi, CORNERS))
    reach = draw.uniform(0.2, 0.4, CORNERS) * min(width, height)
    x, y = width / 2 + reach * np.cos(angles), height / 2 + reach * np.sin(angles)
    corners = np.stack([x, y], axis=1).round(2)
    (left, top), (right, bottom) = corners.min(axis=0), corners.max(axis=0)
    return {
        "id": number,
        "image_id": image,
        "category_id": 1,
        "bbox": [float(left), float(top), float(right - left), float(bottom - top)],
        "segmentation": [corners.ravel().tolist()],
        "area": 1.0,
        "iscrowd": 0,
    }


def ref(target: int, times: int) -> dict[str, Any]:
    texts = expressions(target)
    first = target * EXPRESSIONS // OBJECTS
    return {
        "ref_id": target,
        "ann_id": target,
        "image_id": image_of(target, times),
        "category_id": 1,
        "file_name": f"COCO_train2014_{target:012d}.jpg",
        "split": "train",
        "sent_ids": list(range(first, first + len(texts))),
        "sentences": [
            {"sent_id": first + n, "sent": text, "raw": text, "tokens": text.split()}
            for n, text in enumerate(texts)
        ],
    }


MAKERS = {"table": make_table, "refer": make_refer}


if __name__ == "__main__":
    main()
