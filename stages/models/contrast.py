"""Contrast within an image: maps of one object agree, maps of different objects differ.

Segment-Select-Correct (ssc_ris/correct/loss.py there). Each cell of a map is a yes or no with a
probability; two maps are compared by the Kullback-Leibler divergence of these, summed over cells.

Shapes: T maps of N cells.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from stages.runtime.distributed import gather_differentiable_rows, gather_rows

SPREAD = 0.1  # of the divergence: maps of different objects that differ by 10 are apart


def contrast_loss(logits: Tensor, inside: Tensor, images: Tensor, objects: Tensor) -> Tensor:
    """The mean over all ordered pairs of maps (T, N) of one image; 0 if there are none.

    Maps of all processes are paired: those of an image may be in two of them.

    Of one object: the divergence, per cell. Of different ones: min(1, 1 / (0.1 divergence)), the
    divergence over the cells that are `inside` (T, N) one of both. `images` and `objects` (T,) tell
    what the maps are of.
    """
    logits = gather_differentiable_rows(logits)
    inside, images, objects = (gather_rows(rows)[0] for rows in (inside, images, objects))
    is_pair = (images[:, None] == images) & ~torch.eye(len(images), device=images.device).bool()
    first, second = is_pair.nonzero(as_tuple=True)
    if not len(first):
        return logits.sum() * 0
    divergences = divergence(logits[first], logits[second])  # (pairs, N)
    union = inside[first] | inside[second]
    apart = 1 / (SPREAD * (divergences * union).sum(dim=1)).clamp(min=1)
    is_same = objects[first] == objects[second]
    return torch.where(is_same, divergences.mean(dim=1), apart).mean()


def divergence(logits: Tensor, others: Tensor) -> Tensor:
    """KL of the probability of each cell from that in another map, both given as logits."""
    log_yes, log_no = F.logsigmoid(logits), F.logsigmoid(-logits)
    other_yes, other_no = F.logsigmoid(others), F.logsigmoid(-others)
    return log_yes.exp() * (log_yes - other_yes) + log_no.exp() * (log_no - other_no)
