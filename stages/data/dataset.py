"""The one data set class: objects with their expressions, for training and for passes over a split.

Every random draw is a function of (seed, epoch, item): see stages/training/engine.py.
"""

import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import get_worker_info

from stages.config.section import TextField
from stages.data.images import read_image
from stages.data.negatives import Negatives
from stages.data.resize_modes import RESIZE_MODES, ResizeModeName
from stages.data.resized import ResizedImages
from stages.data.shards import image_batches
from stages.data.text import Tokenizer
from stages.runtime.errors import InputError
from stages.runtime.loading import read_ahead
from stages.storage.masks import decode
from stages.storage.tables import Samples

log = logging.getLogger(__name__)

CACHE_BYTES = 1_000_000_000  # decoded images kept in memory, by all workers together


@dataclass(frozen=True)
class Item:
    """One image and some expressions about it."""

    image: int
    pixels: Tensor  # uint8 (3, S, S)
    expressions: list[int]
    negatives: NDArray[np.int64]  # (expressions, N) expression ids
    mask: Tensor | None = None  # (S, S)
    weight: float | None = None  # of the mask
    no_target: bool = False


class ReferringDataset:
    """Items of one object each (training), or of one image each with all its expressions.

    An object comes with `expressions_per_object` of its expressions; with None each expression is
    an item of its own.

    `masks` gives the run lengths of each object to train on, and must hold all objects; `weights`
    how much each of them counts. `images` is the file of resize_images for this size and mode;
    without it images are decoded here. `text_field` is what the model reads of an expression that
    has two texts.
    """

    def __init__(
        self,
        samples: Samples,
        tokenizer: Tokenizer,
        image_size: int,
        *,
        resize_mode: ResizeModeName = "stretch",
        text_field: TextField = "sent",
        seed: int = 0,
        negatives: int = 0,
        expressions_per_object: int | None = 1,
        masks: Mapping[int, str] | None = None,
        weights: Mapping[int, float] | None = None,
        share_images: bool = True,
        images: Path | None = None,
    ) -> None:
        self.samples, self.size, self.seed = samples, image_size, seed
        self.num_negatives, self.num_expressions = negatives, expressions_per_object
        self.masks, self.weights, self.share_images = masks, weights, share_images
        self.resize_mode = RESIZE_MODES[resize_mode]
        self.resized = ResizedImages(images, image_size) if images is not None else None
        self.images = samples.images.set_index("image")
        self.files: dict[int, str] = self.images.file.to_dict()
        sides = zip(self.images.height.tolist(), self.images.width.tolist(), strict=True)
        self.shapes: dict[int, tuple[int, int]] = dict(
            zip(self.images.index.tolist(), sides, strict=True)
        )
        self.absent = set(samples.objects.object[samples.objects.no_target].tolist())
        items = samples.objects[["object", "image"]]
        if expressions_per_object is None:
            items = samples.expressions[["expression", "object"]].merge(items, on="object")
            self.single = items.expression.to_numpy()
        self.objects = items.object.to_numpy()
        self.groups: NDArray[np.int64] | None = items.image.to_numpy()
        if masks is not None:
            _require_masks(samples.objects.object.to_numpy(), masks)
        rows = samples.expressions
        self.of_object: dict[int, NDArray[np.int64]] = {
            int(key): group.to_numpy() for key, group in rows.groupby("object").expression
        }
        self.of_images: dict[int, list[int]] = {
            int(key): group.tolist() for key, group in samples.objects.groupby("image").object
        }
        self.object_of = dict(zip(rows.expression.tolist(), rows.object.tolist(), strict=True))
        self.tokens = _tokenize(rows, tokenizer, text_field)  # (T, L)
        self.token_row = dict(zip(rows.expression.tolist(), range(len(rows)), strict=True))
        self.cache: dict[int, Tensor] = {}

    def __len__(self) -> int:
        return len(self.objects)

    def __getitem__(self, key: tuple[int, int]) -> Item:
        """Item `index`, with expressions that are drawn for this epoch."""
        epoch, index = key
        random = np.random.default_rng([self.seed, epoch, index])
        object_id = int(self.objects[index])
        if self.num_expressions is None:
            chosen = [int(self.single[index])]
        else:
            own = self.of_object[object_id]
            count = min(self.num_expressions, len(own))
            chosen = [int(e) for e in random.choice(own, count, replace=False)]
        negatives = np.zeros((len(chosen), 0), np.int64)
        if self.num_negatives:
            negatives = np.stack(
                [self.negatives.draw(object_id, e, self.num_negatives, random) for e in chosen]
            )
        image = int(self.groups[index])  # type: ignore[index]
        return Item(
            image,
            self.pixels(image),
            chosen,
            negatives,
            self._mask(object_id, image),
            self.weights[object_id] if self.weights is not None else None,
            object_id in self.absent,
        )

    @cached_property
    def negatives(self) -> Negatives:
        """The expressions of other objects."""
        return Negatives(self.samples)

    def of_image(self, image: int) -> Item:
        """An image with all expressions about it."""
        ids = [int(e) for object_id in self.of_images[image] for e in self.of_object[object_id]]
        return Item(image, self.pixels(image), ids, np.zeros((len(ids), 0), np.int64))

    def pixels(self, image: int) -> Tensor:
        """The image at training size, uint8 (3, S, S); decoded once while memory lasts."""
        if self.resized is not None:
            return self.resized[image]
        if image in self.cache:
            return self.cache[image]
        pixels = self.resize_mode.image(read_image(self.files[image]), self.size)
        worker = get_worker_info()
        room = CACHE_BYTES // (worker.num_workers if worker is not None else 1)
        if (len(self.cache) + 1) * pixels.numel() <= room:
            self.cache[image] = pixels
        return pixels

    def collate(self, items: list[Item]) -> dict[str, Tensor]:
        """A batch of I images (each once, if images are shared) and T expressions.

        images (I, 3, S, S) as bytes, image_index (T,), tokens (T, L), the ids expression (T,),
        of_image (T,) and of_object (T,), negatives (T, N) and, for training, masks (T, S, S),
        no_target (T,) and, if masks have weights, weights (T,). `prepare` finishes it.
        """
        keys = [item.image if self.share_images else number for number, item in enumerate(items)]
        first: dict[int, int] = {}  # the first item with each image, in the order of the items
        for number, key in enumerate(keys):
            first.setdefault(key, number)
        places = {key: place for place, key in enumerate(first)}
        counts = torch.tensor([len(item.expressions) for item in items])
        ids = [e for item in items for e in item.expressions]
        batch = {
            "images": torch.stack([items[number].pixels for number in first.values()]),
            "image_index": torch.tensor([places[key] for key in keys]).repeat_interleave(counts),
            "tokens": self.tokens[[self.token_row[e] for e in ids]],
            "expression": torch.tensor(ids),
            "of_image": torch.tensor([item.image for item in items]).repeat_interleave(counts),
            "of_object": torch.tensor([self.object_of[e] for e in ids]),
            "negatives": torch.from_numpy(np.concatenate([item.negatives for item in items])),
        }
        masks = [item.mask for item in items if item.mask is not None]
        if masks:
            batch["masks"] = torch.stack(masks).repeat_interleave(counts, dim=0)
            absent = torch.tensor([float(item.no_target) for item in items])
            batch["no_target"] = absent.repeat_interleave(counts)
        weights = [item.weight for item in items if item.weight is not None]
        if weights:
            batch["weights"] = torch.tensor(weights).repeat_interleave(counts)
        return batch

    def prepare(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """A batch with its images as the model's numbers; made where the batch is."""
        finished = {**batch, "images": self.resize_mode.normalize(batch["images"])}
        if "masks" in batch:
            finished["masks"] = batch["masks"].float()
        return finished

    def _mask(self, object_id: int, image: int) -> Tensor | None:
        if self.masks is None:
            return None
        height, width = self.shapes[image]
        return self.resize_mode.mask(decode(self.masks[object_id], height, width), self.size)


def _texts(expressions: pd.DataFrame, field: TextField) -> list[str]:
    """One of the two texts of each expression; the only one where a source has no other."""
    if field == "raw":
        return [str(text) for text in expressions.raw.fillna(expressions.text)]
    return [str(text) for text in expressions.text]


def _tokenize(expressions: pd.DataFrame, tokenizer: Tokenizer, field: TextField) -> Tensor:
    """Tokens (T, L); a warning names the expressions that are too long and are cut off."""
    texts, ids = _texts(expressions, field), expressions.expression.tolist()
    tokens = tokenizer(texts)
    full = tokens[:, -1].nonzero()[:, 0].tolist()  # only these can be too long
    cut = [ids[full[place]] for place in tokenizer.too_long([texts[row] for row in full])]
    if cut:
        shown = ", ".join(map(str, cut[:20])) + (", ..." if len(cut) > 20 else "")
        log.warning(
            "%d of %d expressions are longer than %d tokens and are cut off: %s",
            *(len(cut), len(texts), tokens.shape[1], shown),
        )
    return tokens


def _require_masks(objects: NDArray[np.int64], masks: Mapping[int, str]) -> None:
    missing = [int(object_id) for object_id in objects if masks.get(int(object_id)) is None]
    if missing:
        shown = ", ".join(map(str, missing[:5]))
        raise InputError(
            f"{len(missing)} of {len(objects)} objects have no mask (objects {shown}, ...);"
            " masks of all objects of the split are needed to train on it"
        )


def inference_batches(
    data: ReferringDataset, expressions_per_batch: int, threads: int = 0
) -> Iterator[dict[str, Tensor]]:
    """All expressions of a data set in batches that keep the expressions of an image together.

    A batch is one of `collate`, with its images as bytes, and has `image` (I,), their ids.
    `threads` read images ahead.
    """
    batches = image_batches(data.samples, expressions_per_batch)
    yield from read_ahead(_ByImage(data), batches, threads)


class _ByImage:
    """The data set indexed by image."""

    def __init__(self, data: ReferringDataset) -> None:
        self.data = data

    def __len__(self) -> int:
        return len(self.data.images)

    def __getitem__(self, image: int) -> Item:
        return self.data.of_image(image)

    def collate(self, items: list[Item]) -> dict[str, Tensor]:
        images = torch.tensor([item.image for item in items])
        return {**self.data.collate(items), "image": images}
