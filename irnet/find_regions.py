"""Find the regions of each image that its objects may be: candidates of assign_masks (one shard).

They are of no object (irnet/affinity/regions.py). The walk is that of propagate.
"""

import logging
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch

from irnet.affinity.batches import PIXELS_AT_ONCE, read, same_size
from irnet.affinity.images import Rgb
from irnet.affinity.large_pictures import enlarged, predict_batch
from irnet.affinity.network import AffinityNetwork, load_affinity
from irnet.affinity.pseudo_masks import image_factor
from irnet.affinity.regions import find_regions
from irnet.affinity.responses import MappedImage, mapped_images
from stages.config.steps import Propagation
from stages.runtime.command_line import main
from stages.runtime.device import choose_device
from stages.runtime.loading import ahead
from stages.storage.masks import Mask, encode
from stages.storage.tables import read_samples, write_table
from stages.training.progress import Progress

VERSION = 1

log = logging.getLogger(__name__)


def run(
    samples: Path,
    maps: list[Path],
    model: Path,
    regions: Path,
    config: Propagation,
    workers: int = 1,
) -> None:
    """`workers` threads read images beside the device."""
    images = mapped_images(read_samples(samples), maps)
    network, trained = load_affinity(model)
    scale, device = trained.input_scale, choose_device()
    network.to(device)
    progress = Progress("regions", 0, len(images))
    total = 0

    def rows() -> Iterator[dict[str, Any]]:
        nonlocal total
        done = 0
        batches = same_size(images, PIXELS_AT_ONCE[device.type] // scale**2)
        with ThreadPoolExecutor(max(1, workers)) as pool:
            for batch, pixels in ahead(pool, read, batches):
                made = _find(network, scale, batch, pixels, config)
                for image, masks in zip(batch, made, strict=True):
                    for mask in masks:
                        total += 1
                        yield _row(image, enlarged(mask, (image.height, image.width)))
                    done += 1
                    progress.update(done, {})

    write_table(regions, "regions", rows())
    log.info("%d regions of %d images", total, len(images))


@torch.no_grad()
def _find(
    network: AffinityNetwork,
    input_scale: int,
    images: Sequence[MappedImage],
    pixels: Sequence[Rgb],
    config: Propagation,
) -> list[Iterator[Mask]]:
    """The regions of each of some images of one size."""
    responses, edges, _ = predict_batch(network, input_scale, images, pixels)
    return find_regions(responses, edges, image_factor(input_scale), config)


def _row(image: MappedImage, mask: Mask) -> dict[str, Any]:
    return {
        "image": image.image,
        "height": image.height,
        "width": image.width,
        "mask": encode(mask),
    }


if __name__ == "__main__":
    main(run)
