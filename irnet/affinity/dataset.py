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

from irnet.affinity.images import Rgb, read_rgb, resize, scaled
from irnet.affinity.pairs import BACKGROUND, FOREGROUND, IGNORE
from stages.config.steps import CELL, Affinity
from stages.data.images import normalize
from stages.storage.masks import decode

SCALES = (0.5, 1.5)  # official range of the random size


@dataclass(frozen=True)
class Crop:
    """A crop (3, S, S) of an image, as bytes, and the part of it that the image covers."""

    colors: NDArray[np.uint8]
    covered: tuple[int, int, int, int]  # rows from, to; columns from, to


@dataclass(frozen=True)
class Item:
    """A crop of an image and the label grid (S / 4, S / 4) of one of its objects."""

    number: int  # of the image
    crop: Crop
    labels: NDArray[np.uint8]


@dataclass(frozen=True)
class View:
    """The augmentation of an image: scale, mirror, crop."""

    scale: float
    mirrored: bool
    size: int
    corner: list[int]  # (down, right)

    def crop(self, image: Rgb) -> Crop:
        """The crop of an image (H, W, 3)."""
        enlarged = resize(image, self.scale, Image.Resampling.BICUBIC)
        return _crop(self._turned(enlarged.transpose(2, 0, 1)), self.size, self.corner)

    def labels(self, labels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """The grid (S / 4, S / 4) of the crop of an image's labels (H, W)."""
        enlarged = self._turned(resize(labels, self.scale, Image.Resampling.NEAREST))
        crop = _place(enlarged, self.size, self.corner, IGNORE)
        return resize(crop, 1 / CELL, Image.Resampling.NEAREST)

    def _turned(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        return image[..., ::-1] if self.mirrored else image


class LabeledObjects:
    """One item for each object: its image at a random size, maybe mirrored, cropped at random.

    `table` has a row for each object: file, image, width, height and the columns of `labels`.
    """

    def __init__(self, table: pd.DataFrame, config: Affinity) -> None:
        self.rows: list[dict[str, Any]] = table.to_dict("records")  # type: ignore[assignment]
        self.groups: NDArray[np.int64] | None = table.image.to_numpy(np.int64)
        self.config = config
        self.latest: tuple[tuple[int, int], Crop] | None = None

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, key: tuple[int, int]) -> Item:
        epoch, index = key
        row = self.rows[index]
        shared = self.config.group_by_image
        view = self._view(epoch, row["image"] if shared else index, row["width"], row["height"])
        if not shared or self.latest is None or self.latest[0] != (epoch, row["image"]):
            pixels = read_rgb(row["file"], row["width"], row["height"])
            self.latest = ((epoch, row["image"]), view.crop(pixels))
        return Item(row["image"], self.latest[1], view.labels(read_labels(row)))

    def _view(self, epoch: int, drawn: int, width: int, height: int) -> "View":
        random = np.random.default_rng([self.config.seed, epoch, drawn])
        scale = self.config.input_scale * random.uniform(*SCALES)
        mirrored = bool(random.random() < 0.5)
        size = self.config.crop_size
        corner = [_corner(scaled(side, scale), size, random) for side in (height, width)]
        return View(scale, mirrored, size, corner)

    def collate(self, items: list[Item]) -> dict[str, Tensor]:
        """A batch of B crops, labels (P, S / 4, S / 4), and the crop (P,) of each object."""
        shared = self.config.group_by_image
        keys = [item.number if shared else place for place, item in enumerate(items)]
        first = dict(zip(reversed(keys), reversed(items), strict=True))
        order = {key: place for place, key in enumerate(dict.fromkeys(keys))}
        return {
            **_collate([first[key].crop for key in order]),
            "labels": torch.from_numpy(np.stack([item.labels for item in items])),
            "image_index": torch.tensor([order[key] for key in keys]),
        }

    def prepare(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """The batch with its images as the network's numbers; made where the batch is."""
        return finish_crops(batch)


class Crops:
    """Each image once, as it is: its upper left corner, filled up to the size of training."""

    def __init__(self, table: pd.DataFrame, config: Affinity) -> None:
        images = table.drop_duplicates("image")
        self.rows: list[dict[str, Any]] = images.to_dict("records")  # type: ignore[assignment]
        self.config = config

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Crop:
        row = self.rows[index]
        view = View(self.config.input_scale, False, self.config.crop_size, [0, 0])
        return view.crop(read_rgb(row["file"], row["width"], row["height"]))

    def collate(self, items: list[Crop]) -> dict[str, Tensor]:
        """A batch of B crops."""
        return _collate(items)


def finish_crops(batch: dict[str, Tensor]) -> dict[str, Tensor]:
    """A batch of crops with its images (B, 3, S, S) normalized, and 0 where no image is."""
    top, bottom, left, right = batch["covered"][:, :, None].unbind(1)  # (B, 1) each
    cells = torch.arange(batch["images"].shape[-1], device=batch["images"].device)
    rows = (cells >= top) & (cells < bottom)  # (B, S)
    columns = (cells >= left) & (cells < right)  # (B, S)
    outside = ~(rows[:, None, :, None] & columns[:, None, None, :])  # (B, 1, S, S)
    return {**batch, "images": normalize(batch["images"]).masked_fill_(outside, 0)}


def read_labels(row: Mapping[str, Any]) -> NDArray[np.uint8]:
    """The label of each pixel (H, W) of a row of the labels table."""
    height, width = row["height"], row["width"]
    labels = np.full((height, width), BACKGROUND, np.uint8)
    labels[decode(row["ignore"], height, width)] = IGNORE
    labels[decode(row["foreground"], height, width)] = FOREGROUND
    return labels


def _collate(crops: list[Crop]) -> dict[str, Tensor]:
    """Bytes (B, 3, S, S), and what the images cover of them (B, 4); `finish_crops` finishes it."""
    return {
        "images": torch.from_numpy(np.stack([crop.colors for crop in crops])),
        "covered": torch.tensor([crop.covered for crop in crops]),
    }


def _crop(image: NDArray[np.uint8], size: int, corner: list[int]) -> Crop:
    """The crop of an image (3, H, W) at its final scale."""
    sides = zip(image.shape[-2:], corner, strict=True)
    (top, bottom), (left, right) = (_covered(side, size, offset) for side, offset in sides)
    return Crop(_place(image, size, corner, 0), (top, bottom, left, right))


def _covered(side: int, size: int, offset: int) -> tuple[int, int]:
    """From where to where a side of an image reaches in a crop that begins at `offset` of it."""
    start = max(0, -offset)
    return start, start + min(size, side)


def _place(image: NDArray[np.uint8], size: int, corner: list[int], fill: int) -> NDArray[np.uint8]:
    """A crop (..., size, size) of an image, from `corner` (down, right) on, padded with `fill`."""
    frame = np.full((*image.shape[:-2], size, size), fill, image.dtype)
    source: list[Any] = [...]
    target: list[Any] = [...]
    for side, offset in zip(image.shape[-2:], corner, strict=True):
        start, stop = _covered(side, size, offset)
        first = max(0, offset)
        source.append(slice(first, first + stop - start))
        target.append(slice(start, stop))
    frame[tuple(target)] = image[tuple(source)]
    return frame


def _corner(side: int, size: int, random: np.random.Generator) -> int:
    """The start of the crop: inside a longer side, before the start of a shorter one."""
    space = side - size
    return int(random.integers(min(0, space), max(0, space) + 1))
