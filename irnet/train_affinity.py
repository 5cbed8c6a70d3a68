"""Train the inter-pixel relation network on confident labels.

Official step_refer/train_irn.py. Departures: the mean displacement is measured once for each image,
not once for each of its objects, and the last, smaller batch of an epoch counts unless `drop_last`.
"""

import logging
import math
from collections.abc import Sequence
from pathlib import Path
from typing import cast

import pandas as pd
import torch

from irnet.affinity.dataset import Crops, LabeledObjects, finish_crops
from irnet.affinity.network import AffinityNetwork, RelationTraining, about_affinity
from stages.config.section import Execution
from stages.config.steps import Affinity
from stages.runtime.command_line import main
from stages.runtime.distributed import is_first_process
from stages.runtime.errors import InputError
from stages.runtime.loading import count_workers, load_batches
from stages.storage.collapse import Tally
from stages.storage.masks import area
from stages.storage.tables import read_samples, read_table, sample_files
from stages.training.checkpoint import fingerprint
from stages.training.engine import fit
from stages.training.provenance import write_provenance

VERSION = 2

log = logging.getLogger(__name__)


def run(
    samples: Path,
    labels: list[Path],
    model: Path,
    config: Affinity,
    execution: Execution | None = None,
    name: str | None = None,
) -> None:
    """`labels` are the shards of the confident labels; `name` is that of the run, for trackers."""
    torch.manual_seed(config.seed)  # of the new layers
    table = labeled_objects(samples, labels)
    execution = execution or Execution()
    tally = Tally("labels")
    for row in table.itertuples():
        tally.add(area(row.foreground, row.height, row.width), row.height * row.width)
    tally.require_some(", ".join(map(str, labels)), execution.on_collapse)
    speed = fit(
        RelationTraining(config),
        LabeledObjects(table, config),
        config,
        execution=execution,
        output=model,
        fingerprint=fingerprint(config, [*sample_files(samples), *labels, *config.files]),
        about=about_affinity(config),
        name=name,
        finish=lambda network: set_mean(cast(AffinityNetwork, network), table, config, execution),
    )
    if is_first_process():
        write_provenance(model, speed)


def labeled_objects(samples: Path, labels: Sequence[Path]) -> pd.DataFrame:
    """A row for each object with labels: the labels, and the image's number, file and size."""
    data = read_samples(samples)
    table = read_table("labels", labels).merge(
        data.objects[["object", "image"]], on="object", how="left"
    )
    unknown = table[table.image.isna()]
    place_of = ", ".join(map(str, labels))
    if not unknown.empty:
        raise InputError(
            f"{place_of}: object {unknown.object.iloc[0]} is not in {samples};"
            " needed: labels made from these samples"
        )
    if table.empty:
        raise InputError(f"{place_of}: no object has labels; needed: at least one")
    return table.astype({"image": "int64"}).merge(data.images[["image", "file"]], on="image")


@torch.no_grad()
def set_mean(
    network: AffinityNetwork, table: pd.DataFrame, config: Affinity, execution: Execution
) -> None:
    """Measure the mean displacement over all images, cropped or filled up as in training.

    The losses only depend on differences between cells, so the mean of all cells is arbitrary.
    """
    network.eval()
    mean = network.displacement.mean
    mean.zero_()
    images = Crops(table, config)
    size = math.ceil(config.batch_size / config.accumulate)
    batches = [range(len(images))[start : start + size] for start in range(0, len(images), size)]
    total = torch.zeros(2, dtype=torch.float64)
    workers = count_workers(mean.device, execution.workers)
    for batch in load_batches(images, batches, workers):
        crops = {name: value.to(mean.device) for name, value in batch.items()}
        _, displacement = network(finish_crops(crops)["images"])
        total += displacement.mean(dim=(2, 3)).double().sum(dim=0).cpu()
    mean.copy_(total / len(images))
    log.info("mean displacement measured on %d images", len(images))


if __name__ == "__main__":
    main(run)
