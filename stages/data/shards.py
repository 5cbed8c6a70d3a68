"""Shards of a split, one a job: results do not depend on their number.

A shard consists of whole batches, the same ones as in a single job, because the last digits of a
network's output can depend on the other images of the batch.
"""

import numpy as np

from stages.storage.tables import Samples


def image_batches(samples: Samples, expressions_per_batch: int) -> list[list[int]]:
    """Image ids in batches of at most so many expressions; images are never split."""
    of_object = samples.expressions.object.value_counts()
    counts = samples.objects.object.map(of_object).fillna(0).groupby(samples.objects.image).sum()
    batches: list[list[int]] = [[]]
    filled = 0
    for image, count in counts.astype(int).items():
        if batches[-1] and filled + count > expressions_per_batch:
            batches.append([])
            filled = 0
        batches[-1].append(int(image))  # type: ignore[call-overload]
        filled += count
    return batches if batches[-1] else []


def take_shard(samples: Samples, number: int, count: int, expressions_per_batch: int) -> Samples:
    """Shard `number` (from 0) of `count`; empty if there are fewer batches."""
    batches = image_batches(samples, expressions_per_batch)
    own = np.array_split(np.arange(len(batches)), count)[number]
    images = [image for place in own for image in batches[place]]
    return samples.of(samples.objects[samples.objects.image.isin(images)])
