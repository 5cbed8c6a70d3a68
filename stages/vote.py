"""Votes of a trained segmentor: the response map of each object of a next round (one shard).

Each expression of an object gives a mask; the map of the object is the share of its expressions
that have a pixel in theirs. The expression that is closest to it stands for the object.
"""

import logging
from collections.abc import Iterator
from itertools import accumulate, groupby
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from stages.config.steps import Prms
from stages.data.shards import take_shard
from stages.inference.inference import ExpressionPrediction, Inference
from stages.inference.split_data import batches_with_shapes, data_for
from stages.models.assignment import soft_overlaps
from stages.models.saved import load_model
from stages.runtime.command_line import main
from stages.runtime.device import choose_device
from stages.storage.collapse import Tally
from stages.storage.tables import ResponseMap, map_row, read_samples, write_table

CELLS = 96  # a side of the stored maps

VERSION = 2

log = logging.getLogger(__name__)


def run(
    samples: Path,
    model: Path,
    maps: Path,
    config: Prms,
    split: str = "train",
    shard: int = 0,
    shards: int = 1,
    images: Path | None = None,
) -> None:
    """`images` are those of resize_images; without them they are decoded here."""
    inference = Inference(load_model(model), choose_device(), config.precision)
    shard_samples = take_shard(read_samples(samples).split(split), shard, shards, config.batch_size)
    data = data_for(inference, shard_samples, images)
    objects = shard_samples.expressions.set_index("expression").object
    tally = Tally("response maps")

    def rows() -> Iterator[dict[str, Any]]:
        for batch, shapes in batches_with_shapes(inference, data, config.batch_size):
            ids = batch["expression"].tolist()
            masks = torch.stack(
                [to_cells(_voted(found)) for found in inference.predict(batch, shapes)]
            )
            # The expressions of an object follow each other.
            runs = [(t, len(list(run))) for t, run in groupby(objects.loc[ids].tolist())]
            starts = accumulate((count for _, count in runs[:-1]), initial=0)
            for (target, count), start in zip(runs, starts, strict=True):
                votes, agreement = count_votes(masks[start : start + count])
                closest = ids[start + int(agreement.argmax())]
                tally.add(int((votes > 0).sum()), votes.numel())
                yield map_row(
                    target, ResponseMap(closest, votes.numpy(), CELLS), agreement.tolist()
                )

    write_table(maps, "maps", rows())
    tally.conclude(maps)
    log.info("votes for %d objects", len(shard_samples.objects))


def _voted(found: ExpressionPrediction) -> Tensor:
    """The mask (H, W) of an expression; none if the segmentor finds that it has no target."""
    return torch.from_numpy(found.mask & (not found.no_target))


def to_cells(mask: Tensor) -> Tensor:
    """The share of each cell (CELLS, CELLS) that a mask (H, W) covers."""
    return F.adaptive_avg_pool2d(mask[None].float(), CELLS)[0]


def count_votes(masks: Tensor) -> tuple[Tensor, Tensor]:
    """The mean (h, w) of the masks (K, h, w) of an object, and the IoU (K,) of each with it."""
    votes = masks.mean(dim=0)
    return votes, soft_overlaps(votes[None], masks)[0]


if __name__ == "__main__":
    main(run)
