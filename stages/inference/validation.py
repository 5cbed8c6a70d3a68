"""Scores of a split by its true masks, while a model is trained.

The same passes as in stages/predict.py, of a copy of the model: what is trained does not change.
The processes of a training share the batches.
"""

import copy
from collections.abc import Callable, Generator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import nn

from stages.config.section import Execution, TextField
from stages.config.selection import SelectedTraining, Validation
from stages.data.dataset import ReferringDataset, inference_batches
from stages.data.resize_modes import ResizeModeName
from stages.data.shards import image_batches, take_shard
from stages.data.text import Tokenizer
from stages.inference.inference import EncodedPrediction, Inference
from stages.metrics.iou import changes_sign, summarize
from stages.models.saved import Saved
from stages.runtime.distributed import gather_rows, process_count, process_rank
from stages.runtime.errors import InputError
from stages.runtime.loading import count_workers
from stages.storage.masks import area, common_area
from stages.storage.tables import Samples
from stages.training.selection import Selection


def make_selection(
    options: SelectedTraining,
    samples: Samples,
    tokenizer: Tokenizer,
    image_size: int,
    resize_mode: ResizeModeName,
    text_field: TextField = "sent",
    images: Path | None = None,
    execution: Execution | None = None,
) -> Selection | None:
    """The validations that the options of a training ask for; None if they ask for none.

    `samples` are those of the data set, `images` the file of resize_images. Raises InputError for a
    split that is not there, and for one without masks.
    """
    if options.validation is None:
        return None
    split = validated_samples(samples, options.validation)
    shard = take_shard(split, process_rank(), process_count(), options.validation.batch_size)
    data = ReferringDataset(
        shard,
        tokenizer,
        image_size,
        resize_mode=resize_mode,
        text_field=text_field,
        images=images,
    )
    batches = len(image_batches(split, options.validation.batch_size))
    rounds = -(-batches // process_count())
    workers = execution.workers if execution is not None else None
    return Selection(options, _SplitValidator(options, options.validation, data, rounds, workers))


def validated_samples(samples: Samples, options: Validation) -> Samples:
    """What is scored of a data set: of the splits the objects with masks, and their expressions."""
    chosen = [samples.split(name).objects for name in options.split]
    objects = pd.concat(chosen).drop_duplicates("object").sort_values("object")
    masked = objects[objects["mask"].notna()]
    if masked.empty:
        raise InputError(
            f"validation: split {' + '.join(options.split)} has no masks; needed one that has, or"
            " no validation and keep: last"
        )
    if options.limit is not None:
        names = masked.image.unique()
        picks = np.linspace(0, len(names) - 1, min(options.limit, len(names))).round().astype(int)
        masked = masked[masked.image.isin(names[picks])]
    split = samples.of(masked)
    if options.first_expressions:
        first = split.expressions.drop_duplicates("object")
        split = replace(split, expressions=first)
    return split


class _SplitValidator:
    """Scores the model that it is given on this process's batches, together with the others."""

    def __init__(
        self,
        options: SelectedTraining,
        validation: Validation,
        data: ReferringDataset,
        rounds: int,
        workers: int | None,
    ) -> None:
        self.options, self.validation, self.data = options, validation, data
        self.rounds, self.workers = rounds, workers  # batches of the process that has most
        rows = data.samples.expressions.merge(data.samples.objects, on="object")
        self.masks: dict[int, str] = dict(
            zip(rows.expression.tolist(), rows["mask"].tolist(), strict=True)
        )

    def __call__(self, model: nn.Module, is_ended: Callable[[], bool]) -> dict[str, float] | None:
        # Weights laid out as in a model that is loaded: sums are in the same order.
        own = copy.deepcopy(model)
        own.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
        device = next(own.parameters()).device
        saved = Saved(own, self.options, self.data.size)
        counts: list[list[int]] = []
        with closing(self._score(Inference(saved, device))) as batches:
            for _ in range(self.rounds):
                if is_ended():
                    return None
                counts += next(batches, [])
        table = torch.tensor(counts, dtype=torch.int64).reshape(-1, 3)
        gathered = gather_rows(table)[0].numpy()
        _, intersections, unions = gathered[np.argsort(gathered[:, 0])].T
        scores = summarize(intersections, unions)
        return {
            "mean_iou": scores.mean_iou,
            "overall_iou": scores.overall_iou,
            "precision_50": scores.precision[0.5],
        }

    def _score(self, inference: Inference) -> Generator[list[list[int]], None, None]:
        """Of each batch, the expressions with the pixels of intersection and union."""
        threads = count_workers(inference.device, self.workers)
        for batch in inference_batches(self.data, self.validation.batch_size, threads):
            shapes = [self.data.shapes[image] for image in batch["image"].tolist()]
            results = inference.encode(batch, shapes)
            rows = zip(
                batch["expression"].tolist(), batch["image_index"].tolist(), results, strict=True
            )
            yield [
                [expression, *self._count(expression, shapes[image], prediction)]
                for expression, image, prediction in rows
            ]

    def _count(
        self, expression: int, shape: tuple[int, int], prediction: EncodedPrediction
    ) -> tuple[int, int]:
        """Pixels of intersection and union; none is predicted where there is no target."""
        target = self.masks[expression]
        pixels = area(target, *shape)
        takes_all = self.validation.empty_response == "whole_image"
        if takes_all and changes_sign(prediction.score):
            return pixels, shape[0] * shape[1]
        if prediction.no_target:
            return 0, pixels
        common = common_area([prediction.mask, target], *shape)
        return common, area(prediction.mask, *shape) + pixels - common
