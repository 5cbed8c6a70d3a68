"""How a prediction fails: each expression is in exactly one group.

With T the pixels of the target and P those of the prediction, the first of these that holds:

`right`         the IoU of P and T is above 0.5 (the share of this group is P@0.5)
`wrong_object`  less than half of T is in P, and P has more pixels of another annotated object of
                the image (those outside T) than of T
`nothing`       less than a tenth of T is in P: the background, or no pixel at all
`too_much`      P is larger than T
`too_little`    P is not

For an expression without a target, an empty prediction is right, and any other is `too_much`.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from stages.storage.masks import Mask

RIGHT = 0.5
FOUND = 0.5  # share of the target: from here on the prediction is of the right object
TOUCHED = 0.1  # share of the target: below, the prediction misses it

Group = Literal["right", "wrong_object", "too_much", "too_little", "nothing"]
GROUPS: tuple[Group, ...] = get_args(Group)


def group(prediction: Mask, ground_truth: Mask, rival: Callable[[], int]) -> Group:
    """The group of one prediction (H, W); `rival` gives its `rival_pixels`, which few need."""
    common = int(np.count_nonzero(prediction & ground_truth))
    predicted, target = int(np.count_nonzero(prediction)), int(np.count_nonzero(ground_truth))
    return group_of_counts(common, predicted, target, rival)


def group_of_counts(common: int, predicted: int, target: int, rival: Callable[[], int]) -> Group:
    """The group of one prediction, from its pixels, those of the target, and those of both."""
    union = predicted + target - common
    if not union or common / union > RIGHT:
        return "right"
    if not target:
        return "too_much"
    if common < FOUND * target and rival() > common:
        return "wrong_object"
    if common < TOUCHED * target:
        return "nothing"
    return "too_much" if predicted > target else "too_little"


def rival_pixels(prediction: Mask, ground_truth: Mask, others: NDArray[np.bool_]) -> int:
    """The most pixels of any other object (N, H, W) in the prediction, outside the target."""
    if not len(others):
        return 0
    return int((others & (prediction & ~ground_truth)).sum(axis=(1, 2)).max())


def shares(groups: Sequence[str]) -> dict[str, float]:
    """The share of each group, empty groups included."""
    counts = Counter(groups)
    return {name: counts[name] / len(groups) for name in GROUPS}
