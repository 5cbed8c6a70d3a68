"""Masks of all expressions of a split by a trained model, or by CLIP as it is (one shard)."""

import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from stages.backbones.clip import frozen, load_clip
from stages.core.command import main
from stages.core.config import ClipSource, Evaluation
from stages.core.device import autocast, choose_device
from stages.core.errors import InputError
from stages.core.masks import encode
from stages.core.shards import take_shard
from stages.core.tables import read_samples, write_table
from stages.data.dataset import ReferringDataset, inference_batches
from stages.data.framing import FRAMINGS
from stages.data.wordpiece import load_model_tokenizer
from stages.models.saved import GeneralizedPredictor, Predictor, Saved, load_model
from stages.models.zero_shot import ZeroShot

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
    """`model` is what a training step wrote; without it, `clip` is used as it is.

    `images` are those of resize_images; without them they are decoded here.
    """
    if model is not None:
        saved = load_model(model)
    elif clip is not None:
        saved = Saved[nn.Module](ZeroShot(load_clip(clip)), clip, clip, image_size)
    else:
        raise InputError("predict: neither --model nor --clip is given; needed one of them")
    device = choose_device()
    predictor: Any = frozen(saved.model).to(device)
    framing = FRAMINGS[predictor.framing]
    part = take_shard(read_samples(samples).split(split), shard, shards, config.batch_size)
    tokenizer = load_model_tokenizer(saved.config, saved.clip)
    data = ReferringDataset(
        part, tokenizer, saved.image_size, framing=predictor.framing, images=images
    )
    objects = part.expressions.set_index("expression").object

    def rows() -> Iterator[dict[str, Any]]:
        for batch in inference_batches(data, config.batch_size):
            on_device = {name: value.to(device) for name, value in batch.items()}
            with torch.inference_mode(), autocast(device):
                maps, absent = _predict(predictor, on_device)
            images = batch["image"][batch["image_index"]].tolist()
            for expression, image, small, nothing in zip(
                batch["expression"].tolist(), images, maps, absent, strict=True
            ):
                shape = int(data.images.height[image]), int(data.images.width[image])
                full = framing.restore(small[None], shape, predictor.certain)[0].cpu()  # (H, W)
                row, column = divmod(int(full.argmax()), shape[1])
                mask = (full > 0).numpy()
                yield {
                    "expression": expression,
                    "object": int(objects[expression]),
                    "height": shape[0],
                    "width": shape[1],
                    "mask": encode(mask),
                    "row": row,
                    "column": column,
                    "score": float(full[row, column]),
                    "no_target": not mask.any() if nothing is None else nothing,
                }

    write_table(predictions, "predictions", rows())
    log.info("masks of %d expressions", len(part.expressions))


def _predict(
    predictor: Predictor, batch: dict[str, Tensor]
) -> tuple[Tensor, Sequence[bool | None]]:
    """Maps (T, S, S), and whether there is no target; None where a model cannot say it."""
    if isinstance(predictor, GeneralizedPredictor):
        maps, absent = predictor.predict_generalized(batch)
        return maps.float(), (absent > 0).tolist()
    maps = predictor.predict(batch).float()
    return maps, [None] * len(maps)


if __name__ == "__main__":
    main(run)
