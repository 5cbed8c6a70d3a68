"""Examples of single expressions: stage by stage, best to worst, and of each kind of failure."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from PIL import Image

from stages.data import response_maps as response
from stages.data.images import read_image
from stages.metrics.failures import GROUPS
from stages.metrics.iou import intersection_union, iou
from stages.reporting import overlay
from stages.storage.masks import Mask, decode
from stages.storage.tables import ResponseMap, Samples, read_maps, read_table

OF_A_GROUP = 7  # examples of each group of failures


@dataclass(frozen=True)
class Shards:
    """The files of each stage of a split; stages without files are not shown."""

    predictions: Sequence[Path]
    maps: Sequence[Path] = ()
    labels: Sequence[Path] = ()
    pseudo_masks: Sequence[Path] = ()
    upper_bound: Sequence[Path] = ()


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
        self.predicted = read_table("predictions", shards.predictions).set_index("expression")
        self.maps: dict[int, ResponseMap] = read_maps(shards.maps) if shards.maps else {}
        self.labels = _of_objects("labels", shards.labels)
        self.pseudo = _of_objects("masks", shards.pseudo_masks)
        bound = read_table("predictions", shards.upper_bound) if shards.upper_bound else None
        self.bound = bound.set_index("expression") if bound is not None else None
        present = {
            "image": True,
            "response map": bool(self.maps),
            "CRF label": shards.labels,
            "pseudo mask": shards.pseudo_masks,
            "prediction": True,
            "fully supervised": shards.upper_bound,
            "ground truth": scored is not None,
        }
        self.titles = [title for title, there in present.items() if there]

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

    def failures(self) -> dict[str, list[dict[str, str]]]:
        """A few predictions of each failure group, spread over the split, with the ground truth."""
        if self.scored is None:
            return {}
        return {group: list(self._of_group(group)) for group in GROUPS}

    def _of_group(self, group: str) -> Iterable[dict[str, str]]:
        assert self.scored is not None
        table = self.scored[self.scored["group"] == group].drop_duplicates("image")
        if table.empty:
            return
        picks = np.linspace(0, len(table) - 1, min(OF_A_GROUP, len(table))).round().astype(int)
        for expression in table.index[picks]:
            image, object_id = self._image(expression)
            mask = _mask_of(self.predicted.loc[expression], image)
            ground_truth = decode(self.objects["mask"][object_id], image.height, image.width)
            drawn = overlay.comparison_thumbnail(image, mask, ground_truth)
            yield {
                "image": overlay.data_url(drawn),
                "expression": self.texts[expression],
                "note": self._note(mask, object_id),
            }

    def _image(self, expression: int) -> tuple[Image.Image, int]:
        """The image of an expression, and the number of its object."""
        object_id = int(self.predicted.object[expression])
        return read_image(self.images.file[self.objects.image[object_id]]), object_id

    def _row(self, expression: int) -> dict[str, Any]:
        image, object_id = self._image(expression)
        cells = [{"image": overlay.data_url(overlay.thumbnail(image)), "note": ""}]
        if self.maps:
            cells.append(self._response(image, self.maps[object_id]))
        if self.labels is not None:
            label = self.labels.loc[object_id]
            ignore = decode(label["ignore"], image.height, image.width)
            foreground = decode(label["foreground"], image.height, image.width)
            cells.append(self._mask(image, object_id, foreground, ignore))
        if self.pseudo is not None:
            pseudo = decode(self.pseudo["mask"][object_id], image.height, image.width)
            cells.append(self._mask(image, object_id, pseudo))
        cells.append(self._mask(image, object_id, _mask_of(self.predicted.loc[expression], image)))
        if self.bound is not None:
            cells.append(self._mask(image, object_id, _mask_of(self.bound.loc[expression], image)))
        if self.scored is not None:
            ground_truth = decode(self.objects["mask"][object_id], image.height, image.width)
            drawn = overlay.mask_thumbnail(image, ground_truth, overlay.GROUND_TRUTH)
            cells.append({"image": overlay.data_url(drawn), "note": ""})
        named = [{"title": title, **cell} for title, cell in zip(self.titles, cells, strict=True)]
        return {"expression": self.texts[expression], "cells": named}

    def _response(self, image: Image.Image, stored: ResponseMap) -> dict[str, str]:
        grid = torch.from_numpy(stored.grid)[None]
        full = response.full_map(grid, stored.input_size, (image.height, image.width))[0]
        drawn = overlay.thumbnail(overlay.response_overlay(image, full.numpy()))
        return {
            "image": overlay.data_url(drawn),
            "note": f"of “{self.texts[stored.expression]}”",
        }

    def _mask(
        self, image: Image.Image, object_id: int, mask: Mask, ignore: Mask | None = None
    ) -> dict[str, str]:
        drawn = overlay.mask_thumbnail(image, mask, overlay.PREDICTION, ignore)
        return {"image": overlay.data_url(drawn), "note": self._note(mask, object_id)}

    def _note(self, mask: Mask, object_id: int) -> str:
        if self.scored is None:
            return ""
        ground_truth = decode(self.objects["mask"][object_id], *mask.shape)
        percent = 100 * float(iou(*intersection_union(mask, ground_truth)))
        return f"IoU {percent:.0f}\N{NO-BREAK SPACE}%"


def _mask_of(prediction: Any, image: Image.Image) -> Mask:
    """The mask of a row of predictions, empty if no target is predicted."""
    return decode(prediction["mask"], image.height, image.width) & (not prediction["no_target"])


def _of_objects(kind: str, shards: Sequence[Path]) -> pd.DataFrame | None:
    return read_table(kind, shards).set_index("object") if shards else None


def _of_different_images(scored: pd.DataFrame, count: int) -> list[int]:
    """The first expressions of a ranking, no two of one image."""
    return [int(expression) for expression in scored.drop_duplicates("image").index[:count]]
