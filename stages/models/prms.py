"""PRMS of TRIS (Liu et al., ICCV 2023): which response map fits an object's expressions best.

An object's expressions each give a map. The judge, a frozen CLIP, sees the image through every map
and compares what it sees with all expressions of the object; the map with the highest sum is chosen
(official validate.py, validate_same_sentence). Departures: each masked image is encoded once, not
once for each expression, and an object whose scores are all -1 or less still gets its best map.

Shapes: I images, P maps, one for each expression, K expressions of one object, E embedding.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from stages.backbones.clip import Clip
from stages.data import response_maps as response
from stages.models.judge import encode_kept, resize_images


@dataclass(frozen=True)
class Choice:
    """How well the maps of one object fit its expressions."""

    scores: Tensor  # (K, K) cosine of what map j keeps with expression k
    totals: Tensor  # (K,) float64, the sum of each map's scores
    index: int  # of the chosen map: the first of the best


@torch.no_grad()
def choose_maps(
    judge: Clip,
    images: Tensor,
    grids: Tensor,
    texts: Tensor,
    image_index: Tensor,
    counts: list[int],
    batch_size: int = 64,
) -> list[Choice]:
    """The choice of each object, from images (I, 3, S, S) and responses before relu (P, h, w).

    `texts` (P, E) are the judge's features of the expressions, `image_index` (P,) their images,
    `counts` the number of expressions of each object: the rows of an object are consecutive.
    """
    size = (images.shape[2], images.shape[3])
    seen = resize_images(judge, images)
    kept = []
    for rows in torch.arange(len(grids), device=grids.device).split(batch_size):
        maps = response.upsample(grids[rows], size).relu()
        kept.append(encode_kept(judge, seen[image_index[rows]], maps))
    texts = torch.nn.functional.normalize(texts, dim=1)
    return [
        _choose(views, expressions)
        for views, expressions in zip(
            torch.cat(kept).split(counts), texts.split(counts), strict=True
        )
    ]


def _choose(views: Tensor, expressions: Tensor) -> Choice:
    # Not a matrix product: that would be of low precision where the judge runs so.
    scores = (views[:, None] * expressions).sum(dim=2)  # (K, K)
    totals = scores.double().sum(dim=1)
    return Choice(scores, totals, int(totals.argmax()))
