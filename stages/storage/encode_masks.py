"""Run lengths of masks that are on a device: counted there, so that only the counts leave it.

The same text as stages/storage/masks.py makes of each mask.
"""

import numpy as np
import torch
from pycocotools import mask as coco
from torch import Tensor


def encode_all(masks: Tensor) -> list[str]:
    """COCO run-length counts of each of some masks (P, H, W) of one size."""
    count, height, width = masks.shape
    if not count:
        return []
    columns = masks.bool().transpose(1, 2).flatten(1)  # column by column
    before = torch.zeros((count, 1), dtype=torch.bool, device=masks.device)
    changes = (torch.cat([before, columns[:, :-1]], dim=1) != columns).nonzero().cpu().numpy()
    starts = np.searchsorted(changes[:, 0], np.arange(1, count))  # of all masks but the first
    runs = []
    for places in np.split(changes[:, 1], starts):
        lengths = np.diff(places, prepend=0, append=height * width)
        runs.append({"size": [height, width], "counts": lengths.tolist()})
    return [
        str(compressed["counts"].decode("ascii"))
        for compressed in coco.frPyObjects(runs, height, width)
    ]
