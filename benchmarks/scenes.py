"""A data set of the size of COCO's pictures, made in the run: JPEG files of 640 x 480 pixels."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from PIL import Image
from torch import Tensor

from stages import resize_images
from stages.config.section import ResizeModeName
from stages.data.dataset import ReferringDataset
from stages.storage.masks import encode
from stages.storage.tables import Samples, write_table

WIDTH, HEIGHT = 640, 480
OBJECTS_PER_IMAGE = 3
QUALITY = 90


class RandomWords:
    """Token ids as a model of that vocabulary reads them: start, words, end."""

    def __init__(self, length: int, first: int, last: int, words: tuple[int, int]) -> None:
        self.length, self.first, self.last, self.words = length, first, last, words

    def __call__(self, texts: Sequence[str]) -> Tensor:
        generator = torch.Generator().manual_seed(0)
        tokens = torch.randint(*self.words, (len(texts), self.length), generator=generator)
        tokens[:, 0], tokens[:, -1] = self.first, self.last
        return tokens

    def too_long(self, texts: Sequence[str]) -> list[int]:
        return []


def make_scenes(folder: Path, count: int) -> pd.DataFrame:
    """Write `count` pictures, and return their objects: image, file, size, mask and labels."""
    random = np.random.default_rng(0)
    rows: list[dict[str, Any]] = []
    for image in range(count):
        file = folder / f"{image}.jpg"
        small = Image.fromarray(random.integers(0, 255, (60, 80, 3), dtype=np.uint8))
        small.resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC).save(file, quality=QUALITY)
        for _ in range(OBJECTS_PER_IMAGE):
            y, x = random.integers(60, HEIGHT - 60), random.integers(80, WIDTH - 80)
            grid_y, grid_x = np.ogrid[:HEIGHT, :WIDTH]
            distance = ((grid_y - y) / 60) ** 2 + ((grid_x - x) / 80) ** 2
            mask, near = distance < 1, (distance >= 1) & (distance < 1.5)
            rows.append(
                {
                    "object": len(rows),
                    "image": image,
                    "file": str(file),
                    "width": WIDTH,
                    "height": HEIGHT,
                    "mask": encode(mask),
                    "foreground": encode(mask),
                    "ignore": encode(near),
                }
            )
    return pd.DataFrame(rows)


def referring_data(
    objects: pd.DataFrame,
    tokenizer: RandomWords,
    size: int,
    resize_mode: ResizeModeName,
    folder: Path | None,
    **options: Any,
) -> ReferringDataset:
    """The training items of those objects, one expression each.

    With a `folder` the images are decoded once into it, as of a large data set; else each time.
    """
    images = objects[["image", "file", "width", "height"]].drop_duplicates("image")
    told = objects[["object", "image", "mask"]].assign(split="train", no_target=False)
    texts = pd.DataFrame(
        {"expression": objects.object, "object": objects.object, "text": "the red cup"}
    )
    kept = None
    if folder is not None:
        kept = folder / f"images-{resize_mode}-{size}.npy"
        if not kept.exists():
            write_table(folder / "images.parquet", "images", images.to_dict("records"))
            resize_images.run(folder / "samples.json", kept, resize_mode, size, workers=8)
    masks = dict(zip(objects.object.tolist(), objects["mask"].tolist(), strict=True))
    return ReferringDataset(
        Samples(images, told, texts),
        tokenizer,
        size,
        resize_mode=resize_mode,
        masks=masks,
        images=kept,
        **options,
    )
