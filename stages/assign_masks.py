"""Joint assignment: which object of an image each of its pseudo masks belongs to (one shard).

The pseudo masks of all objects of an image, their parts, and regions of the image are candidates
for each of them (stages/models/assignment.py). An object for which no candidate is left keeps its
own mask. The score of that and of an empty mask is 0.
"""

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor

from stages.backbones.clip import Clip
from stages.config.encoders import JudgeSource
from stages.config.steps import Assignment
from stages.data import response_maps as response
from stages.data.images import normalize, read_image, square
from stages.models import assignment
from stages.models.judge import encode_masked, load_judge
from stages.runtime.command_line import main
from stages.runtime.device import choose_device, inferring
from stages.storage.masks import Mask, decode, encode
from stages.storage.tables import (
    ResponseMap,
    Samples,
    read_maps,
    read_samples,
    read_table,
    write_table,
)
from stages.storage.weights import load_weights

VERSION = 3

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Scene:
    """An image with its objects, their expressions, pseudo masks and responses, and its regions."""

    file: str
    expressions: list[list[int]]  # of each object
    masks: pd.DataFrame  # a row of each
    responses: list[ResponseMap]  # of each
    regions: list[str]  # run lengths


def run(
    samples: Path,
    features: Path,
    maps: Path,
    masks: Path,
    assigned: Path,
    judge: JudgeSource,
    config: Assignment,
    regions: Path | None = None,
) -> None:
    """`masks`, `maps` and `regions` are of one shard; `features` are the judge's, of all texts."""
    device = choose_device()
    clip = load_judge(judge).to(device)
    texts = load_weights(features)[0]["text"].to(device)
    found_regions = read_table("regions", regions) if regions is not None else None
    scenes = _scenes(
        read_samples(samples), read_table("masks", masks), read_maps([maps]), found_regions
    )
    changed = 0

    def rows() -> Iterator[dict[str, Any]]:
        nonlocal changed
        for scene in scenes:
            with inferring(device, "float32"):
                found = _assign(scene, clip, texts, config)
            for own, (mask, score) in zip(scene.masks.to_dict("records"), found, strict=True):
                encoded = encode(mask)
                changed += int(encoded != own["mask"])
                yield {**own, "mask": encoded, "score": score}

    write_table(assigned, "masks", rows())
    log.info(
        "%d of %d objects have another mask", changed, sum(len(scene.masks) for scene in scenes)
    )


def _scenes(
    samples: Samples,
    masks: pd.DataFrame,
    maps: dict[int, ResponseMap],
    regions: pd.DataFrame | None,
) -> list[Scene]:
    of_image: dict[int, list[str]] = {}
    if regions is not None:
        of_image = regions.groupby("image")["mask"].apply(list).to_dict()
    rows = masks.set_index("object", drop=False)
    of_object = samples.expressions.groupby("object").expression.apply(list)
    images = samples.images.set_index("image").file
    covered = samples.objects[samples.objects.object.isin(rows.index)]
    return [
        Scene(
            str(images[image]),
            [of_object[number] for number in group.object],
            rows.loc[group.object],
            [maps[number] for number in group.object],
            of_image.get(image, []),
        )
        for image, group in covered.groupby("image", sort=False)
    ]


def _assign(
    scene: Scene, judge: Clip, texts: Tensor, config: Assignment
) -> list[tuple[Mask, float]]:
    """The mask of each object of an image, and how certain it is."""
    side, device = judge.image_size, texts.device
    pixels = normalize(square(read_image(scene.file), side)[None].to(device))
    shape = (int(scene.masks.height.iloc[0]), int(scene.masks.width.iloc[0]))
    masks = np.stack([decode(mask, *shape) for mask in scene.masks["mask"]])
    regions = [decode(region, *shape) for region in scene.regions]
    candidates = assignment.find_candidates(masks, config, regions)
    full = torch.from_numpy(candidates).to(device)
    small = response.resize(full.float(), (side, side))
    views = encode_masked(judge, pixels.expand(len(small), -1, -1, -1), small)
    spoken = F.normalize(texts[[e for of_object in scene.expressions for e in of_object]], dim=1)
    counts = [len(of_object) for of_object in scene.expressions]
    scores = assignment.evidence(views, spoken, counts, float(judge.logit_scale.exp()))
    if config.weight_response:
        maps = [
            response.full_map(torch.from_numpy(stored.grid)[None], stored.input_size, shape)
            for stored in scene.responses
        ]
        soft = response.normalize(torch.cat(maps).to(device))
        scores = scores + config.weight_response * assignment.soft_overlaps(soft, full)
    assert config.method is not None  # else there is no such step
    kept = assignment.distinct(scores, assignment.overlaps(full), config.overlap)
    scores = scores[:, kept]
    chosen = assignment.assign(scores.double().cpu().numpy(), config.method)
    certain = assignment.certainty(scores, chosen)
    found = [
        own if number == assignment.NONE else candidates[kept[number]]
        for own, number in zip(masks, chosen, strict=True)
    ]
    return [
        (mask, score if mask.any() else 0.0) for mask, score in zip(found, certain, strict=True)
    ]


if __name__ == "__main__":
    main(run)
