"""Examples of single expressions, stage by stage: best, median and worst ones."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from PIL import Image

from stages.data import response_maps as response
from stages.data.images import read_image
from stages.metrics.iou import intersection_union, iou
from stages.reporting import overlay
from stages.storage.masks import Mask, decode
from stages.storage.tables import ResponseMap, Samples, read_maps, read_table

GROUND_TRUTH = "ground truth"  # the title of its stage


@dataclass(frozen=True)
class Shards:
    """The files of each stage of a split; stages without files are not shown.

    `others` are the predictions of other segmentors, by the titles of their stages.
    """

    predictions: Sequence[Path]
    maps: Sequence[Path] = ()
    labels: Sequence[Path] = ()
    pseudo_masks: Sequence[Path] = ()
    assigned: Sequence[Path] = ()
    others: Mapping[str, Sequence[Path]] = field(default_factory=dict)
    title: str = "prediction"


@dataclass(frozen=True)
class Stage:
    """What one stage made of an expression: nothing (the image), a response or a mask, (H, W)."""

    title: str
    mask: Mask | None = None
    ignore: Mask | None = None  # pixels of a label that training ignores
    response: NDArray[np.float32] | None = None
    of: str = ""  # the expression of a response, which may be another one of the object
    iou: float | None = None

    @property
    def is_empty(self) -> bool:
        if self.response is not None:
            return not (self.response > 0).any()
        return self.mask is not None and not self.mask.any()

    @property
    def note(self) -> str:
        notes = [f"of “{self.of}”"] if self.of else []
        notes += ["empty"] if self.is_empty else []
        if self.iou is not None:
            notes.append(f"IoU {100 * self.iou:.0f}\N{NO-BREAK SPACE}%")
        return ", ".join(notes)


@dataclass(frozen=True)
class ExampleGroup:
    """Some examples under one title."""

    title: str
    rows: list[dict[str, Any]]


class Examples:
    """Examples of a split, one image for each stage."""

    def __init__(self, samples: Samples, shards: Shards, scored: pd.DataFrame | None) -> None:
        """`scored` are the expressions with the scores of the predictions; None without masks."""
        self.images = samples.images.set_index("image")
        self.objects = samples.objects.set_index("object")
        self.texts = samples.expressions.set_index("expression").text
        self.scored = scored.set_index("expression") if scored is not None else None
        self.predicted = read_predictions(shards.predictions)
        self.maps: dict[int, ResponseMap] = read_maps(shards.maps) if shards.maps else {}
        self.labels = _of_objects("labels", shards.labels)
        self.pseudo = _of_objects("masks", shards.pseudo_masks)
        self.assigned = _of_objects("masks", shards.assigned)
        others = {title: read_predictions(files) for title, files in shards.others.items()}
        self.title, self.segmentors = shards.title, {shards.title: self.predicted, **others}

    def ranked(self, count: int) -> list[ExampleGroup]:
        """Best, median and worst predictions, about `count` in all, no two of a group of one image.

        Without scores: `count` in the order of the images.
        """
        if self.scored is None:
            images = self.predicted.object.map(self.objects.image)
            first = self.predicted.index[~images.duplicated()]
            picks = np.unique(np.linspace(0, len(first) - 1, count).round().astype(int))
            return [ExampleGroup("some of the images", [self._row(e) for e in first[picks]])]
        order = self.scored.sort_values("iou", kind="stable", ascending=False)
        middle = (np.arange(len(order)) - len(order) // 2).astype(int)
        around = order.iloc[np.argsort(np.abs(middle), kind="stable")]
        ranked = {"best": order, "median": around, "worst": order[::-1]}
        size = -(-count // len(ranked))
        return [
            ExampleGroup(title, [self._row(e) for e in _of_different_images(table, size)])
            for title, table in ranked.items()
        ]

    def stages(self, expression: int, image: Image.Image) -> list[Stage]:
        """What each stage made of an expression; the true mask, where there is one, is the last."""
        object_id, shape = self.object_of(expression), (image.height, image.width)
        stages = [Stage("image")]
        if self.maps:
            stored = self.maps[object_id]
            grid = torch.from_numpy(stored.grid)[None]
            full = response.full_map(grid, stored.input_size, shape)[0].numpy()
            stages.append(Stage("response map", response=full, of=self.texts[stored.expression]))
        if self.labels is not None:
            label = self.labels.loc[object_id]
            foreground, ignore = (decode(label[name], *shape) for name in ("foreground", "ignore"))
            stages.append(self._masked("CRF label", object_id, foreground, ignore))
        for title, table in (("pseudo mask", self.pseudo), ("assigned mask", self.assigned)):
            if table is not None:
                mask = decode(table["mask"][object_id], *shape)
                stages.append(self._masked(title, object_id, mask))
        for title, table in self.segmentors.items():
            row = table.loc[expression]
            mask = decode(row["mask"], *shape) & (not row["no_target"])
            stages.append(self._masked(title, object_id, mask))
        if self.scored is not None:
            stages.append(Stage(GROUND_TRUTH, mask=decode(self.objects["mask"][object_id], *shape)))
        return stages

    def object_of(self, expression: int) -> int:
        return int(self.predicted.object[expression])

    def image_of(self, expression: int) -> Path:
        """The file of the image of an expression."""
        return Path(self.images.file[self.objects.image[self.object_of(expression)]])

    def _masked(self, title: str, object_id: int, mask: Mask, ignore: Mask | None = None) -> Stage:
        if self.scored is None:
            return Stage(title, mask=mask, ignore=ignore)
        ground_truth = decode(self.objects["mask"][object_id], *mask.shape)
        score = float(iou(*intersection_union(mask, ground_truth)))
        return Stage(title, mask=mask, ignore=ignore, iou=score)

    def _row(self, expression: int) -> dict[str, Any]:
        image = read_image(self.image_of(expression))
        cells = [_cell(image, stage) for stage in self.stages(expression, image)]
        return {"expression": self.texts[expression], "cells": cells}


def _cell(image: Image.Image, stage: Stage) -> dict[str, str]:
    """A small image of a stage, with its title and a note."""
    if stage.response is not None:
        drawn = overlay.thumbnail(overlay.response_overlay(image, stage.response))
    elif stage.mask is not None:
        color = overlay.GROUND_TRUTH if stage.title == GROUND_TRUTH else overlay.PREDICTION
        drawn = overlay.mask_thumbnail(image, stage.mask, color, stage.ignore)
    else:
        drawn = overlay.thumbnail(image)
    return {"title": stage.title, "image": overlay.data_url(drawn), "note": stage.note}


def read_predictions(shards: Sequence[Path]) -> pd.DataFrame:
    """Predictions by their expression."""
    return read_table("predictions", shards).set_index("expression")


def _of_objects(kind: str, shards: Sequence[Path]) -> pd.DataFrame | None:
    return read_table(kind, shards).set_index("object") if shards else None


def _of_different_images(scored: pd.DataFrame, count: int) -> list[int]:
    """The first expressions of a ranking, no two of one image."""
    return [int(expression) for expression in scored.drop_duplicates("image").index[:count]]
