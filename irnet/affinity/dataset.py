"""Training items of the inter-pixel relation network: augmented images with confident labels.

Official voc12/dataloader.py. Every random draw is a function of seed, epoch and item; if the
objects of an image share a batch (group_by_image), of seed, epoch and image, so that they also
share the crop. The labels of pairs are computed on the device from the small label grid, not here.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from irnet.affinity.images import network_input, read_rgb, resize, scaled
from irnet.affinity.pairs import BACKGROUND, FOREGROUND, IGNORE
from stages.config.steps import CELL, Affinity
from stages.storage.masks import decode

SCALES = (0.5, 1.5)  # official range of the random size


@dataclass(frozen=True)
class Item:
    """An image (3, S, S) and the label grid (S / 4, S / 4) of one of its objects."""

    number: int  # of the image
    image: NDArray[np.float32]
    labels: NDArray[np.uint8]


@dataclass(frozen=True)
class View:
    """The augmentation of an image: scale, mirror, crop."""

    scale: float
    mirrored: bool
    size: int
    corner: list[int]  # (down, right)

    def apply(self, image: NDArray[Any], fill: float) -> NDArray[Any]:
        """The crop (..., S, S) of an image (..., H, W) that is scaled already."""
        turned = image[..., ::-1] if self.mirrored else image
        return place(turned, self.size, self.corner, fill)


class LabeledObjects:
    """One item for each object: its image at a random size, maybe mirrored, cropped at random.

    `table` has a row for each object: file, image, width, height and the columns of `labels`.
    """

    def __init__(self, table: pd.DataFrame, config: Affinity) -> None:
        self.rows: list[dict[str, Any]] = table.to_dict("records")  # type: ignore[assignment]
        self.groups: NDArray[np.int64] | None = table.image.to_numpy(np.int64)
        self.config = config
        self.latest: tuple[tuple[int, int], NDArray[np.float32]] | None = None

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, key: tuple[int, int]) -> Item:
        epoch, index = key
        row = self.rows[index]
        shared = self.config.group_by_image
        view = self._view(epoch, row["image"] if shared else index, row["width"], row["height"])
        if not shared or self.latest is None or self.latest[0] != (epoch, row["image"]):
            pixels = read_rgb(row["file"], row["width"], row["height"])
            colors = view.apply(network_input(pixels, view.scale).numpy(), 0)
            self.latest = ((epoch, row["image"]), colors)
        labels = view.apply(resize(read_labels(row), view.scale, Image.Resampling.NEAREST), IGNORE)
        grid = resize(labels, 1 / CELL, Image.Resampling.NEAREST)
        return Item(row["image"], self.latest[1], grid)

    def _view(self, epoch: int, drawn: int, width: int, height: int) -> "View":
        random = np.random.default_rng([self.config.seed, epoch, drawn])
        scale = self.config.input_scale * random.uniform(*SCALES)
        mirrored = bool(random.random() < 0.5)
        size = self.config.crop_size
        corner = [_corner(scaled(side, scale), size, random) for side in (height, width)]
        return View(scale, mirrored, size, corner)

    def collate(self, items: list[Item]) -> dict[str, Tensor]:
        """Images (B, 3, S, S), labels (P, S / 4, S / 4), and the image (P,) of each object."""
        shared = self.config.group_by_image
        keys = [item.number if shared else place for place, item in enumerate(items)]
        first = dict(zip(reversed(keys), reversed(items), strict=True))
        order = {key: place for place, key in enumerate(dict.fromkeys(keys))}
        return {
            "images": torch.from_numpy(np.stack([first[key].image for key in order])),
            "labels": torch.from_numpy(np.stack([item.labels for item in items])),
            "image_index": torch.tensor([order[key] for key in keys]),
        }

    def prepare(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """The batch as it is: crops are normalized before they are filled up."""
        return batch


class Crops:
    """Each image once, as it is: its upper left corner, filled up to the size of training."""

    def __init__(self, table: pd.DataFrame, config: Affinity) -> None:
        images = table.drop_duplicates("image")
        self.rows: list[dict[str, Any]] = images.to_dict("records")  # type: ignore[assignment]
        self.config = config

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Tensor:
        row = self.rows[index]
        pixels = read_rgb(row["file"], row["width"], row["height"])
        colors = network_input(pixels, self.config.input_scale).numpy()
        return torch.from_numpy(place(colors, self.config.crop_size, [0, 0], 0))

    def collate(self, items: list[Tensor]) -> dict[str, Tensor]:
        """Images (B, 3, S, S)."""
        return {"images": torch.stack(items)}


def read_labels(row: Mapping[str, Any]) -> NDArray[np.uint8]:
    """The label of each pixel (H, W) of a row of the labels table."""
    height, width = row["height"], row["width"]
    labels = np.full((height, width), BACKGROUND, np.uint8)
    labels[decode(row["ignore"], height, width)] = IGNORE
    labels[decode(row["foreground"], height, width)] = FOREGROUND
    return labels


def place(image: NDArray[Any], size: int, corner: list[int], fill: float) -> NDArray[Any]:
    """A crop (..., size, size) of an image, from `corner` (down, right) on, padded with `fill`."""
    frame = np.full((*image.shape[:-2], size, size), fill, image.dtype)
    source: list[Any] = [...]
    target: list[Any] = [...]
    for side, offset in zip(image.shape[-2:], corner, strict=True):
        length = min(size, side)
        source.append(slice(max(0, offset), max(0, offset) + length))
        target.append(slice(max(0, -offset), max(0, -offset) + length))
    frame[tuple(target)] = image[tuple(source)]
    return frame


def _corner(side: int, size: int, random: np.random.Generator) -> int:
    """The start of the crop: inside a longer side, before the start of a shorter one."""
    space = side - size
    return int(random.integers(min(0, space), max(0, space) + 1))
