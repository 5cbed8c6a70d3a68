"""Bootstrap intervals of a mean, over images.

Efron and Tibshirani, An Introduction to the Bootstrap, chapter 13 (percentile interval). Whole
images are resampled, with all their expressions: these share pixels, words and sometimes the
prediction, so that resampling single expressions would give intervals that are too narrow.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

RESAMPLES = 2000
LEVEL = 0.95
CHUNK = 2_000_000  # draws at a time


def mean_interval(
    values: ArrayLike, groups: ArrayLike, seed: int = 0, resamples: int = RESAMPLES
) -> tuple[float, float]:
    """The 95 % interval (low, high) of the mean of values (N), resampled by groups (N).

    Raises ValueError where there is no value.
    """
    numbers, members = np.asarray(values, np.float64), np.asarray(groups)
    if not len(numbers):
        raise ValueError("no sample to resample; needed at least one")
    _, group = np.unique(members, return_inverse=True)
    sums, counts = np.bincount(group, numbers).astype(np.float64), np.bincount(group)
    means = _resampled_means(sums, counts, np.random.default_rng(seed), resamples)
    low, high = np.quantile(means, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


def _resampled_means(
    sums: NDArray[np.float64],
    counts: NDArray[np.int64],
    random: np.random.Generator,
    resamples: int,
) -> NDArray[np.float64]:
    """Means (resamples) over groups drawn with replacement, as many as there are."""
    rows = max(1, CHUNK // len(sums))
    means = []
    for start in range(0, resamples, rows):
        shape = min(rows, resamples - start), len(sums)
        drawn = random.integers(len(sums), size=shape)
        means.append(sums[drawn].sum(axis=1) / counts[drawn].sum(axis=1))
    return np.concatenate(means)
