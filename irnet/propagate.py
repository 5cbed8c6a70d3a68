"""Spread the response maps by random walk up to the edges: one pseudo mask for each object.

Official step_refer/make_ins_seg_labels.py. The network, the instances and the transition matrix are
computed once for each image; the official code computes them for each object.
"""

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from irnet.affinity.images import network_input, read_rgb
from irnet.affinity.network import AffinityNetwork, load_affinity
from irnet.affinity.pseudo_masks import PseudoMask, find_relations, image_factor, pseudo_masks
from irnet.affinity.responses import MappedImage, full_size, mapped_images
from stages.config.steps import Propagation
from stages.runtime.command_line import main
from stages.runtime.device import choose_device
from stages.storage.masks import encode
from stages.storage.tables import read_samples, write_table
from stages.training.progress import Progress

VERSION = 1

log = logging.getLogger(__name__)


def run(samples: Path, maps: list[Path], model: Path, masks: Path, config: Propagation) -> None:
    images = mapped_images(read_samples(samples), maps)
    network, trained = load_affinity(model)
    network.to(choose_device())
    progress = Progress("pseudo masks", 0, len(images))
    empty: list[bool] = []

    def rows() -> Iterator[dict[str, Any]]:
        for number, image in enumerate(images, start=1):
            propagated = propagate(network, trained.input_scale, image, config)
            empty.extend(mask.empty_response for mask in propagated)
            for object_id, mask in zip(image.objects, propagated, strict=True):
                yield _row(object_id, mask)
            progress.update(number, {})

    write_table(masks, "masks", rows())
    if any(empty):
        log.warning("%d of %d objects have no response at all: empty masks", sum(empty), len(empty))


@torch.no_grad()
def propagate(
    network: AffinityNetwork, input_scale: int, image: MappedImage, config: Propagation
) -> list[PseudoMask]:
    """The pseudo mask of each object of an image."""
    device = next(network.parameters()).device
    colors = network_input(read_rgb(image.file, image.width, image.height), input_scale)
    relations = find_relations(*network.predict(colors.to(device)), config)
    responses = full_size(image).to(device)
    return pseudo_masks(responses, relations, image_factor(input_scale), config)


def _row(object_id: int, pseudo_mask: PseudoMask) -> dict[str, Any]:
    height, width = pseudo_mask.mask.shape
    mask = encode(pseudo_mask.mask)
    return {
        "object": object_id,
        "height": height,
        "width": width,
        "mask": mask,
        "score": pseudo_mask.score,
    }


if __name__ == "__main__":
    main(run)
