"""Train the inter-pixel relation network on confident labels.

Official step_refer/train_irn.py. Departures: the mean displacement is measured once for each image,
not once for each of its objects, and the last, smaller batch of an epoch counts.
"""

import logging
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import torch

from irnet.affinity.dataset import LabeledObjects, place
from irnet.affinity.images import network_input, read_rgb
from irnet.affinity.network import (
    AffinityNetwork,
    RelationTraining,
    about_affinity,
    load_affinity,
)
from stages.config.section import Execution
from stages.config.steps import Affinity
from stages.runtime.command_line import main
from stages.runtime.device import choose_device
from stages.runtime.distributed import is_first_process
from stages.runtime.errors import InputError
from stages.storage.tables import read_samples, read_table, sample_files
from stages.storage.weights import save_weights
from stages.training.checkpoint import fingerprint
from stages.training.engine import fit
from stages.training.provenance import write_provenance

VERSION = 1

log = logging.getLogger(__name__)


def run(
    samples: Path,
    labels: list[Path],
    model: Path,
    config: Affinity,
    execution: Execution | None = None,
) -> None:
    torch.manual_seed(config.seed)  # of the new layers
    table = labeled_objects(samples, labels)
    # Another name: the result also needs the mean displacement.
    trained = model.with_name(f"{model.stem}-without-mean{model.suffix}")
    about = about_affinity(config)
    speed = fit(
        RelationTraining(config),
        LabeledObjects(table, config),
        config,
        execution=execution or Execution(),
        output=trained,
        fingerprint=fingerprint(config, [*sample_files(samples), *labels, *config.files]),
        about=about,
    )
    if not is_first_process():
        return
    network, _ = load_affinity(trained)
    network.displacement.mean.copy_(mean_displacement(network, table, config))
    save_weights(model, network.state_dict(), about)
    trained.unlink()
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
def mean_displacement(
    network: AffinityNetwork, table: pd.DataFrame, config: Affinity
) -> torch.Tensor:
    """The mean (2,) of the displacement over all images, cropped or filled up as in training.

    The losses only depend on differences between cells, so the mean of all cells is arbitrary.
    """
    device = choose_device()
    network.to(device).eval()
    total = torch.zeros(2, dtype=torch.float64)
    images = table.drop_duplicates("image")
    for row in images.to_dict("records"):
        image = read_rgb(row["file"], row["width"], row["height"])
        colors = network_input(image, config.input_scale)
        crop = torch.from_numpy(place(colors.numpy(), config.crop_size, [0, 0], 0))
        _, displacement = network(crop[None].to(device))
        total += displacement.mean(dim=(0, 2, 3)).double().cpu()
    log.info("mean displacement measured on %d images", len(images))
    return (total / len(images)).float()


if __name__ == "__main__":
    main(run)
