"""Pictures of single expressions: by stages, from the best to the worst, and of each failure."""

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
from stages.reporting import pictures
from stages.storage.masks import Mask, decode
from stages.storage.tables import ResponseMap, Samples, read_maps, read_table

OF_A_GROUP = 7  # pictures of each group of failures


@dataclass(frozen=True)
class Shards:
    """The files of what is shown of a split; what there is none of, is not shown."""

    predictions: Sequence[Path]
    prms: Sequence[Path] = ()
    labels: Sequence[Path] = ()
    pseudo: Sequence[Path] = ()
    upper_bound: Sequence[Path] = ()


@dataclass(frozen=True)
class Part:
    """Some rows of pictures under one title."""

    title: str
    rows: list[dict[str, Any]]


class Examples:
    """Images of a split by stages."""

    def __init__(self, samples: Samples, shards: Shards, scored: pd.DataFrame | None) -> None:
        """`scored` are the expressions with the scores of the predictions; None without masks."""
        self.images = samples.images.set_index("image")
        self.objects = samples.objects.set_index("object")
        self.texts = samples.expressions.set_index("expression").text
        self.scored = scored.set_index("expression") if scored is not None else None
        self.predicted = read_table("predictions", shards.predictions).set_index("expression")
        self.maps: dict[int, ResponseMap] = read_maps(shards.prms) if shards.prms else {}
        self.labels = _of_objects("labels", shards.labels)
        self.pseudo = _of_objects("masks", shards.pseudo)
        bound = read_table("predictions", shards.upper_bound) if shards.upper_bound else None
        self.bound = bound.set_index("expression") if bound is not None else None
        present = {
            "image": True,
            "response map": bool(self.maps),
            "CRF label": shards.labels,
            "pseudo mask": shards.pseudo,
            "prediction": True,
            "trained on true masks": shards.upper_bound,
            "truth": scored is not None,
        }
        self.heads = [head for head, there in present.items() if there]

    def parts(self, count: int) -> list[Part]:
        """Best, median and worst predictions, about `count` together, one of an image in each.

        Without scores: `count` in the order of the images.
        """
        if self.scored is None:
            images = self.predicted.object.map(self.objects.image)
            first = self.predicted.index[~images.duplicated()]
            picks = np.unique(np.linspace(0, len(first) - 1, count).round().astype(int))
            return [Part("some of the images", [self._row(e) for e in first[picks]])]
        order = self.scored.sort_values("iou", kind="stable", ascending=False)
        middle = (np.arange(len(order)) - len(order) // 2).astype(int)
        around = order.iloc[np.argsort(np.abs(middle), kind="stable")]
        ranked = {"best": order, "median": around, "worst": order[::-1]}
        size = -(-count // len(ranked))
        return [
            Part(title, [self._row(e) for e in _of_different_images(table, size)])
            for title, table in ranked.items()
        ]

    def failures(self) -> dict[str, list[dict[str, str]]]:
        """A few predictions over the outline of the truth for each group, spread over the split."""
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
            image, target = self._image(expression)
            mask = _said(self.predicted.loc[expression], image)
            true = decode(self.objects["mask"][target], image.height, image.width)
            yield {
                "picture": pictures.embedded(pictures.against(image, mask, true)),
                "expression": self.texts[expression],
                "note": self._note(mask, target),
            }

    def _image(self, expression: int) -> tuple[Image.Image, int]:
        """The image of an expression, and the number of its object."""
        target = int(self.predicted.object[expression])
        return read_image(self.images.file[self.objects.image[target]]), target

    def _row(self, expression: int) -> dict[str, Any]:
        image, target = self._image(expression)
        cells = [{"picture": pictures.embedded(pictures.plain(image)), "note": ""}]
        if self.maps:
            cells.append(self._response(image, self.maps[target]))
        if self.labels is not None:
            label = self.labels.loc[target]
            ignore = decode(label["ignore"], image.height, image.width)
            foreground = decode(label["foreground"], image.height, image.width)
            cells.append(self._mask(image, target, foreground, ignore))
        if self.pseudo is not None:
            pseudo = decode(self.pseudo["mask"][target], image.height, image.width)
            cells.append(self._mask(image, target, pseudo))
        cells.append(self._mask(image, target, _said(self.predicted.loc[expression], image)))
        if self.bound is not None:
            cells.append(self._mask(image, target, _said(self.bound.loc[expression], image)))
        if self.scored is not None:
            true = decode(self.objects["mask"][target], image.height, image.width)
            shown = pictures.over(image, true, pictures.TRUE)
            cells.append({"picture": pictures.embedded(shown), "note": ""})
        named = [{"head": head, **cell} for head, cell in zip(self.heads, cells, strict=True)]
        return {"expression": self.texts[expression], "cells": named}

    def _response(self, image: Image.Image, found: ResponseMap) -> dict[str, str]:
        grid = torch.from_numpy(found.grid)[None]
        full = response.full_map(grid, found.input_size, (image.height, image.width))[0]
        return {
            "picture": pictures.embedded(pictures.heat(image, full.numpy())),
            "note": f"of “{self.texts[found.expression]}”",
        }

    def _mask(
        self, image: Image.Image, target: int, mask: Mask, ignore: Mask | None = None
    ) -> dict[str, str]:
        picture = pictures.over(image, mask, pictures.PREDICTED, ignore)
        return {"picture": pictures.embedded(picture), "note": self._note(mask, target)}

    def _note(self, mask: Mask, target: int) -> str:
        if self.scored is None:
            return ""
        truth = decode(self.objects["mask"][target], *mask.shape)
        return f"IoU {100 * float(iou(*intersection_union(mask, truth))):.0f}\N{NO-BREAK SPACE}%"


def _said(prediction: Any, image: Image.Image) -> Mask:
    """The mask of a row of predictions, empty where it says that there is no target."""
    return decode(prediction["mask"], image.height, image.width) & (not prediction["no_target"])


def _of_objects(kind: str, shards: Sequence[Path]) -> pd.DataFrame | None:
    return read_table(kind, shards).set_index("object") if shards else None


def _of_different_images(scored: pd.DataFrame, count: int) -> list[int]:
    """The first expressions of a ranking, no two of one image."""
    return [int(expression) for expression in scored.drop_duplicates("image").index[:count]]
