"""PRMS: the response map of each object that fits all its expressions best (one shard of a split).

An image is encoded once for all its objects and expressions.
"""

import logging
from collections.abc import Iterator
from itertools import accumulate, groupby
from pathlib import Path
from typing import Any

import torch

from stages.backbones.clip import frozen
from stages.config.encoders import JudgeSource
from stages.config.steps import Prms
from stages.data.dataset import ReferringDataset, inference_batches
from stages.data.shards import take_shard
from stages.data.wordpiece import load_model_tokenizer
from stages.models.judge import load_judge
from stages.models.prms import choose_maps
from stages.models.saved import load_stage1
from stages.runtime.command_line import main
from stages.runtime.device import choose_device, inferring
from stages.runtime.loading import count_workers
from stages.storage.collapse import Tally
from stages.storage.tables import ResponseMap, map_row, read_samples, write_table
from stages.storage.weights import load_weights

VERSION = 3

log = logging.getLogger(__name__)


def run(
    samples: Path,
    features: Path,
    model: Path,
    maps: Path,
    judge: JudgeSource,
    config: Prms,
    split: str = "train",
    shard: int = 0,
    shards: int = 1,
    images: Path | None = None,
) -> None:
    """`images` are those of resize_images; without them they are decoded here."""
    device = choose_device()
    saved = load_stage1(model)
    stage1 = frozen(saved.model).to(device)
    judge_clip = load_judge(judge).to(device)
    texts = load_weights(features)[0]["text"].to(device)
    shard_samples = take_shard(read_samples(samples).split(split), shard, shards, config.batch_size)
    data = ReferringDataset(
        shard_samples, load_model_tokenizer(saved.config), saved.image_size, images=images
    )
    objects = shard_samples.expressions.set_index("expression").object

    tally = Tally("response maps")

    def rows() -> Iterator[dict[str, Any]]:
        for batch in inference_batches(data, config.batch_size, count_workers(device)):
            ids = batch["expression"].tolist()
            # The expressions of an object follow each other.
            runs = [(t, len(list(run))) for t, run in groupby(objects.loc[ids].tolist())]
            targets, counts = zip(*runs, strict=True)
            batch = data.prepare({name: value.to(device) for name, value in batch.items()})
            with inferring(device, config.precision):
                grids = stage1(batch["images"], batch["tokens"], batch["image_index"])
                choices = choose_maps(
                    judge_clip,
                    batch["images"],
                    grids,
                    texts[batch["expression"]],
                    batch["image_index"],
                    list(counts),
                    config.batch_size,
                )
            totals = torch.cat([choice.totals for choice in choices]).tolist()
            arrays = grids.float().cpu().numpy()
            starts = accumulate(counts[:-1], initial=0)
            for target, start, count, choice in zip(targets, starts, counts, choices, strict=True):
                row = start + choice.index
                response = ResponseMap(ids[row], arrays[row], saved.image_size)
                tally.add(int((response.grid > 0).sum()), response.grid.size)
                yield map_row(target, response, totals[start : start + count])

    write_table(maps, "maps", rows())
    tally.conclude(maps)
    log.info("maps of %d objects", len(shard_samples.objects))


if __name__ == "__main__":
    main(run)
