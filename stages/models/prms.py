"""PRMS of TRIS (Liu et al., ICCV 2023): the response map that fits an object's expressions best.

Each expression of an object gives a map. The judge, a frozen CLIP, encodes the image times each map
and compares the result with all expressions of the object; the map with the highest sum is chosen
(official validate.py, validate_same_sentence). Departures: each masked image is encoded once, not
once for each expression, and an object whose scores are all -1 or less still gets its best map.

Shapes: I images, P maps, one for each expression, K expressions of one object, E embedding.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from stages.backbones.clip import Clip
from stages.data import response_maps as response
from stages.models.judge import encode_masked, resize_images


@dataclass(frozen=True)
class Choice:
    """The scores of the maps of one object, and the chosen map."""

    scores: Tensor  # (K, K) cosine of the image times map j and of expression k
    totals: Tensor  # (K,) float64, the sum of each map's scores
    index: int  # of the chosen map; the first one of equal maps


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
    resized = resize_images(judge, images)
    features = []
    for rows in torch.arange(len(grids), device=grids.device).split(batch_size):
        maps = response.upsample(grids[rows], size).relu()
        features.append(encode_masked(judge, resized[image_index[rows]], maps))
    texts = torch.nn.functional.normalize(texts, dim=1)
    scores = [
        # Not a matrix product: under autocast that would have low precision.
        (masked[:, None] * expressions).sum(dim=2)
        for masked, expressions in zip(
            torch.cat(features).split(counts), texts.split(counts), strict=True
        )
    ]
    totals = [of_object.double().sum(dim=1) for of_object in scores]
    # All at once, so that the device is waited for once, not for each object.
    chosen = torch.stack([of_object.argmax() for of_object in totals]).tolist()
    return [Choice(*choice) for choice in zip(scores, totals, chosen, strict=True)]
