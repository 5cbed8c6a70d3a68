"""One self-contained page for an experiment: scores of all stages, loss curves, pictures."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
import pandas as pd
import torch
from PIL import Image

from stages.core import response
from stages.core.command import main
from stages.core.config import Experiment
from stages.core.files import read_json, replacing
from stages.core.masks import decode
from stages.core.tables import ResponseMap, Samples, read_maps, read_samples, read_table
from stages.data.images import read_image
from stages.reporting import curves, pictures, table
from stages.reporting.departures import departures

TEMPLATE = Path(__file__).parent / "reporting" / "page.html"

log = logging.getLogger(__name__)


def run(
    name: str,
    experiment: Experiment,
    samples: Path,
    metrics: list[Path],
    losses: list[Path],
    predictions: list[Path],
    report: Path,
    scores: Path,
    prms: Sequence[Path] = (),
    labels: Sequence[Path] = (),
    pseudo: Sequence[Path] = (),
    upper_bound: Sequence[Path] = (),
    note: str | None = None,
) -> None:
    """The shards of `predictions` to `upper_bound` are the columns of the picture grid.

    `note` is a line that belongs to all scores.
    """
    entries = [read_json(path) for path in metrics]
    label = table.label_in_report(name)
    text = table.text_table(entries, label) + (f"{note}\n" if note else "")
    grid = _Grid(read_samples(samples), predictions, prms, labels, pseudo, upper_bound)
    page = jinja2.Template(TEMPLATE.read_text(), autoescape=True).render(
        name=name,
        experiment=experiment,
        departures=departures(experiment),
        note=note,
        columns=table.columns(entries),
        table=table.rows(entries, label),
        curves=[curves.loss_curve(_title(path), read_json(path)) for path in losses],
        heads=grid.heads,
        examples=grid.examples(experiment.report.examples),
    )
    with replacing(report) as temporary:
        temporary.write_text(page)
    with replacing(scores) as temporary:
        temporary.write_text(text)
    log.info("%s", text)


def _title(losses: Path) -> str:
    stage = losses.parent
    return f"{stage.parent.name}: {stage.name}"


class _Grid:
    """Images of a split by stages."""

    def __init__(
        self,
        samples: Samples,
        predictions: Sequence[Path],
        prms: Sequence[Path],
        labels: Sequence[Path],
        pseudo: Sequence[Path],
        upper_bound: Sequence[Path],
    ) -> None:
        self.images = samples.images.set_index("image")
        self.objects = samples.objects.set_index("object")
        self.texts = samples.expressions.set_index("expression").text
        self.predicted = read_table("predictions", predictions).set_index("expression")
        self.maps: dict[int, ResponseMap] = read_maps(prms) if prms else {}
        self.labels = read_table("labels", labels).set_index("object") if labels else None
        self.pseudo = read_table("masks", pseudo).set_index("object") if pseudo else None
        bound = read_table("predictions", upper_bound) if upper_bound else None
        self.bound = bound.set_index("expression") if bound is not None else None
        present = {
            "image": True,
            "response map": bool(self.maps),
            "CRF label": labels,
            "pseudo mask": pseudo,
            "prediction": True,
            "trained on true masks": upper_bound,
            "truth": self.objects["mask"].notna().any(),
        }
        self.heads = [head for head, there in present.items() if there]

    def examples(self, count: int) -> list[dict[str, Any]]:
        """Rows of pictures: one expression an image, from the worst to the best prediction."""
        chosen = self.predicted.groupby(
            self.predicted.object.map(self.objects.image), sort=True
        ).head(1)
        ious = [self._iou(int(row.object), row.mask) or 0.0 for row in chosen.itertuples()]
        ranked = chosen.assign(iou=ious)
        ranked = ranked.sort_values("iou", kind="stable")
        picks = np.unique(np.linspace(0, len(ranked) - 1, count).round().astype(int))
        return [self._example(int(e), ranked.loc[e]) for e in ranked.index[picks]]

    def _example(self, expression: int, row: Any) -> dict[str, Any]:
        target = int(row["object"])
        image = read_image(self.images.file[self.objects.image[target]])
        cells = [{"picture": pictures.plain(image), "note": ""}]
        if self.maps:
            cells.append(self._response(image, self.maps[target]))
        if self.labels is not None:
            label = self.labels.loc[target]
            cells.append(self._mask(image, target, label["foreground"], label["ignore"]))
        if self.pseudo is not None:
            cells.append(self._mask(image, target, self.pseudo["mask"][target]))
        cells.append(self._mask(image, target, row["mask"]))
        if self.bound is not None:
            cells.append(self._mask(image, target, self.bound["mask"][expression]))
        truth = self.objects["mask"][target]
        if "truth" in self.heads:
            true = decode(truth, image.height, image.width)
            cells.append({"picture": pictures.over(image, true, pictures.TRUE), "note": ""})
        return {"expression": self.texts[expression], "cells": cells}

    def _response(self, image: Image.Image, found: ResponseMap) -> dict[str, str]:
        grid = torch.from_numpy(found.grid)[None]
        full = response.full_map(grid, found.input_size, (image.height, image.width))[0]
        return {
            "picture": pictures.heat(image, full.numpy()),
            "note": f"of “{self.texts[found.expression]}”",
        }

    def _mask(
        self, image: Image.Image, target: int, counts: str, ignored: str | None = None
    ) -> dict[str, str]:
        shape = image.height, image.width
        mask = decode(counts, *shape)
        ignore = decode(ignored, *shape) if ignored is not None else None
        return {
            "picture": pictures.over(image, mask, pictures.PREDICTED, ignore),
            "note": self._note(target, counts),
        }

    def _note(self, target: int, counts: str) -> str:
        iou = self._iou(target, counts)
        return "" if iou is None else f"IoU {100 * iou:.0f} %"

    def _iou(self, target: int, counts: str) -> float | None:
        truth = self.objects["mask"][target]
        if pd.isna(truth):
            return None
        image = self.images.loc[self.objects.image[target]]
        shape = int(image["height"]), int(image["width"])
        mask, true = decode(counts, *shape), decode(truth, *shape)
        return float((mask & true).sum() / max(int((mask | true).sum()), 1))


if __name__ == "__main__":
    main(run)
