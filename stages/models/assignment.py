"""Joint assignment: the objects of an image compete for its regions, and each region has one owner.

Response maps and the random walk treat each object alone, so that two objects often get the mask of
one. Here the masks of an image's objects, their parts, and regions that are of no object
(irnet/find_regions.py) are candidates for all of them. Each expression of an object says how well
each candidate fits, by the judge and by the object's response; what all expressions of all objects
say together decides. Greedy choice is that of Segment-Select-Correct (ssc_ris/correct/loss.py
there), whose scores are of a segmentor alone.

Shapes: P objects, C candidates, T expressions, E embedding, H x W pixels.
"""

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from scipy.special import log_softmax
from skimage.measure import label as connected_components
from torch import Tensor

from stages.config.steps import Assignment, AssignmentMethod

NONE = -1  # of an object for which no candidate is left
WITH_MASKS, WITH_PARTS = ("masks", "both", "all"), ("parts", "both", "all")


def find_candidates(
    masks: NDArray[np.bool_], config: Assignment, regions: Sequence[NDArray[np.bool_]] = ()
) -> NDArray[np.bool_]:
    """The candidates (C, H, W) among masks (P, H, W), their parts and regions, by the config.

    The parts are connected by the sides of pixels. They and the regions have `least_area` of the
    image at least; empty masks are left out. If nothing is left, the masks are the candidates, and
    if they are all empty, the empty ones.
    """
    least = config.least_area * masks[0].size
    found = [mask for mask in masks if mask.any()] if config.candidates in WITH_MASKS else []
    for mask in masks if config.candidates in WITH_PARTS else ():
        labels = connected_components(mask, connectivity=1)
        sizes = np.bincount(labels.ravel())[1:]
        if config.candidates in WITH_MASKS and len(sizes) == 1:
            continue  # the whole mask
        found += [labels == number for number in np.flatnonzero(sizes >= least) + 1]
    found += [region for region in regions if region.sum() >= least]
    found = found or [mask for mask in masks if mask.any()]
    return np.stack(found) if found else masks


def overlaps(masks: Tensor) -> Tensor:
    """IoU (C, C) of masks (C, H, W) with each other; 0 of two empty ones."""
    flat = masks.flatten(1).float()
    common = flat @ flat.T
    sizes = flat.sum(dim=1)
    union = sizes[:, None] + sizes - common
    return common / union.clamp(min=1)


def soft_overlaps(responses: Tensor, masks: Tensor) -> Tensor:
    """IoU (P, C) of responses (P, H, W) in 0..1 with masks (C, H, W), as of fuzzy sets."""
    soft, hard = responses.flatten(1), masks.flatten(1).float()
    common = soft @ hard.T
    total = soft.sum(dim=1, keepdim=True) + hard.sum(dim=1)
    return common / (total - common).clamp(min=1e-7)


def evidence(views: Tensor, texts: Tensor, counts: list[int], scale: float) -> Tensor:
    """Log-probability (P, C), but for a constant of each object, of each candidate for each object.

    Each expression chooses among the candidates by the cosines of its feature (T, E) with the
    judge's features of the image in each candidate (C, E), times the scale of the judge's logits;
    the choices of an object's expressions, of which there are `counts`, are multiplied.
    """
    logs = F.log_softmax(scale * (texts @ views.T), dim=1)  # (T, C)
    return torch.stack([of_object.sum(dim=0) for of_object in logs.split(counts)])


def distinct(scores: Tensor, overlap: Tensor, most: float) -> list[int]:
    """The candidates to choose from: of those that overlap more than `most`, the best one.

    Candidates are ranked by their highest score (P, C) of any object.
    """
    kept: list[int] = []
    for candidate in scores.amax(dim=0).argsort(descending=True, stable=True).tolist():
        if all(float(overlap[candidate, other]) <= most for other in kept):
            kept.append(candidate)
    return sorted(kept)


def assign(scores: NDArray[np.float64], method: AssignmentMethod) -> list[int]:
    """A candidate for each object, from scores (P, C): none twice, NONE where there are too few.

    greedy     the object that is most certain of its best candidate comes first, and so on
    hungarian  the sum of the scores is the highest that there is
    """
    chosen = [NONE] * len(scores)
    if method == "hungarian":
        for row, column in zip(*linear_sum_assignment(scores, maximize=True), strict=True):
            chosen[row] = int(column)
        return chosen
    # Shares of several, as the scores of an object are known but for a constant.
    left: NDArray[np.float64] = (
        log_softmax(scores, axis=1) if scores.shape[1] > 1 else scores.copy()
    )
    for _ in range(min(scores.shape)):
        row, column = np.unravel_index(int(left.argmax()), left.shape)
        chosen[row] = int(column)
        left[row], left[:, column] = -np.inf, -np.inf
    return chosen


def certainty(scores: Tensor, chosen: list[int]) -> list[float]:
    """How probable the chosen candidate of each object is among all, 0..1; 0 without one."""
    shares = scores.softmax(dim=1)
    return [
        0.0 if candidate == NONE else float(shares[row, candidate])
        for row, candidate in enumerate(chosen)
    ]
