"""Masks of all expressions of a split by a trained model, or by zero-shot CLIP (one shard)."""

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from torch import nn

from stages.backbones.clip import load_clip
from stages.config.encoders import ClipSource
from stages.config.section import Section
from stages.config.steps import Evaluation, Stage1
from stages.data.shards import take_shard
from stages.inference.inference import Inference
from stages.inference.split_data import batches_with_shapes, data_for
from stages.models.saved import Saved, load_model
from stages.models.zero_shot import ZeroShot
from stages.runtime.command_line import main
from stages.runtime.device import choose_device
from stages.runtime.errors import InputError
from stages.storage.collapse import Kind, Tally
from stages.storage.masks import area
from stages.storage.tables import read_samples, write_table

VERSION = 4

log = logging.getLogger(__name__)


def run(
    samples: Path,
    predictions: Path,
    split: str,
    config: Evaluation,
    model: Path | None = None,
    clip: ClipSource | None = None,
    image_size: int = 320,
    shard: int = 0,
    shards: int = 1,
    images: Path | None = None,
) -> None:
    """`model` is what a training step wrote; without it, `clip` predicts zero-shot.

    `images` are those of resize_images; without them they are decoded here.
    """
    if model is not None:
        saved = load_model(model)
    elif clip is not None:
        saved = Saved[nn.Module](ZeroShot(load_clip(clip)), clip, image_size)
    else:
        raise InputError("predict: neither --model nor --clip is given; needed one of them")
    inference = Inference(saved, choose_device(), config.precision)
    shard_samples = take_shard(read_samples(samples).split(split), shard, shards, config.batch_size)
    data = data_for(inference, shard_samples, images)
    objects = shard_samples.expressions.set_index("expression").object

    tally = Tally(_kind(saved.config))

    def rows() -> Iterator[dict[str, Any]]:
        for batch, shapes in batches_with_shapes(inference, data, config.batch_size):
            results = inference.encode(batch, shapes, config.at_input_size)
            chosen = zip(
                batch["expression"].tolist(), batch["image_index"].tolist(), results, strict=True
            )
            for expression, image, result in chosen:
                height, width = shapes[image]
                tally.add(area(result.mask, height, width), height * width)
                yield {
                    "expression": expression,
                    "object": int(objects[expression]),
                    "height": height,
                    "width": width,
                    "mask": result.mask,
                    "row": result.peak[0],
                    "column": result.peak[1],
                    "score": result.score,
                    "no_target": result.no_target,
                    "input_mask": result.input_mask,
                }

    write_table(predictions, "predictions", rows())
    tally.conclude(predictions)
    log.info("masks of %d expressions", len(shard_samples.expressions))


def _kind(config: Section) -> Kind:
    """Whose predictions they are, by the options of the model."""
    if isinstance(config, ClipSource):
        return "zero-shot predictions"
    return "predictions by stage 1" if isinstance(config, Stage1) else "predictions"


if __name__ == "__main__":
    main(run)
