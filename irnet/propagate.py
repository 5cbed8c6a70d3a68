"""Spread the response maps by random walk up to the edges: one pseudo mask for each object.

Official step_refer/make_ins_seg_labels.py. The network, the instances and the transition matrix are
computed once for each image; the official code computes them for each object.

A GPU takes images of one size together.
"""

import logging
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from irnet.affinity.batches import PIXELS_AT_ONCE, read, same_size
from irnet.affinity.images import Rgb
from irnet.affinity.large_pictures import enlarged, predict_batch
from irnet.affinity.network import AffinityNetwork, load_affinity
from irnet.affinity.pseudo_masks import PseudoMask, find_relations, image_factor, pseudo_masks
from irnet.affinity.responses import MappedImage, mapped_images
from stages.config.steps import Propagation
from stages.runtime.command_line import main
from stages.runtime.device import choose_device
from stages.runtime.loading import ahead
from stages.storage.collapse import Tally
from stages.storage.masks import encode
from stages.storage.tables import read_samples, write_table
from stages.training.progress import Progress

VERSION = 2

WINDOW = 256  # images, of which those of one size are put together; their order is kept

log = logging.getLogger(__name__)


def run(
    samples: Path,
    maps: list[Path],
    model: Path,
    masks: Path,
    config: Propagation,
    workers: int = 1,
) -> None:
    """`workers` threads read images and find the parts of masks, beside the device."""
    images = mapped_images(read_samples(samples), maps)
    network, trained = load_affinity(model)
    device = choose_device()
    network.to(device)
    progress = Progress("pseudo masks", 0, len(images))
    tally = Tally("pseudo masks")

    def rows() -> Iterator[dict[str, Any]]:
        done = 0
        for start in range(0, len(images), WINDOW):
            made: dict[int, dict[str, Any]] = {}
            window = images[start : start + WINDOW]
            batches = same_size(window, PIXELS_AT_ONCE[device.type] // trained.input_scale**2)
            for image, found in _propagated(network, trained.input_scale, batches, config, workers):
                for object_id, pseudo_mask in zip(image.objects, found, strict=True):
                    tally.add(int(pseudo_mask.mask.sum()), pseudo_mask.mask.size)
                    made[object_id] = _row(object_id, pseudo_mask)  # its mask as run lengths
                done += 1
                progress.update(done, {})
            for image in window:
                yield from (made[object_id] for object_id in image.objects)

    write_table(masks, "masks", rows())
    tally.conclude(masks)


def _propagated(
    network: AffinityNetwork,
    input_scale: int,
    batches: Iterator[list[MappedImage]],
    config: Propagation,
    workers: int,
) -> Iterator[tuple[MappedImage, Iterator[PseudoMask]]]:
    """The pseudo masks of each image's objects; the pool is one batch behind the device."""
    begun: deque[Iterator[tuple[MappedImage, Iterator[PseudoMask]]]] = deque()
    with ThreadPoolExecutor(max(1, workers)) as pool:
        for batch, pixels in ahead(pool, read, batches):
            made = propagate(network, input_scale, batch, pixels, config, pool)
            begun.append(zip(batch, made, strict=True))
            if len(begun) > 1:
                yield from begun.popleft()
        while begun:
            yield from begun.popleft()


@torch.no_grad()
def propagate(
    network: AffinityNetwork,
    input_scale: int,
    images: Sequence[MappedImage],
    pixels: Sequence[Rgb],
    config: Propagation,
    pool: ThreadPoolExecutor | None = None,
) -> list[Iterator[PseudoMask]]:
    """The pseudo mask of each object of each of some images of one size.

    The pool, if there is one, still works on them when this returns.
    """
    own = (images[0].height, images[0].width)
    responses, edges, displacements = predict_batch(network, input_scale, images, pixels)
    relations = find_relations(edges, displacements, config)
    made = pseudo_masks(responses, relations, image_factor(input_scale), config, pool)
    return [(replace(m, mask=enlarged(m.mask, own)) for m in masks) for masks in made]


def _row(object_id: int, pseudo_mask: PseudoMask) -> dict[str, Any]:
    height, width = pseudo_mask.mask.shape
    return {
        "object": object_id,
        "height": height,
        "width": width,
        "mask": encode(pseudo_mask.mask),
        "score": pseudo_mask.score,
    }


if __name__ == "__main__":
    main(run)
