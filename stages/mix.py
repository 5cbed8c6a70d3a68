"""Samples of several data sets as one, to train on all of them at once (DETRIS's mixed data).

The train splits become one; a member's other splits keep its name: `refcoco_val`. With `pooled`,
all splits of one name become one, as ReLA registers gRefCOCO and RefCOCO as `full`. The data sets
of COCO share images, so a train image of one can be a test image of another: objects of such images
are left out of train, unless told otherwise (official tools/mix.py keeps them).
"""

import logging
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from stages.config.datasets import DatasetConfig
from stages.runtime.command_line import main
from stages.runtime.errors import InputError
from stages.storage.files import write_json
from stages.storage.tables import Samples, count_samples, read_samples, write_samples

VERSION = 2

log = logging.getLogger(__name__)


def run(samples: Path, members: list[Path], config: DatasetConfig) -> None:
    """`members` are the samples.json of the data sets that `config.members` names, in order."""
    parts = [read_samples(path) for path in members]
    mixed = mix(parts, config.members, config.pooled)
    if config.drop_evaluated_images:
        mixed, dropped = drop_evaluated(mixed)
        log.info("left out of train: %d objects of images that are evaluated on", dropped)
    write_samples(samples.parent, mixed)
    counts = count_samples(samples.parent, "exact")
    write_json(samples, {"splits": counts, "split_rule": "exact", "left_out": 0})


def mix(parts: Sequence[Samples], names: Sequence[str], pooled: bool = False) -> Samples:
    """All images once (by file), all objects and expressions; ids are numbered anew."""
    images = pd.concat([dataset.images for dataset in parts]).drop_duplicates(
        "file", ignore_index=True
    )
    sizes = pd.concat([dataset.images for dataset in parts]).groupby("file")[["width", "height"]]
    unequal = sizes.nunique().max(axis=1)
    if (unequal > 1).any():
        raise InputError(f"{unequal.idxmax()}: two sizes in two data sets; needed one image")
    number = dict(zip(images.file, range(len(images)), strict=True))
    images = images.assign(image=range(len(images)))
    objects, expressions, first, num_expressions = [], [], 0, 0
    for dataset, name in zip(parts, names, strict=True):
        file = dataset.images.set_index("image").file
        new = dict(
            zip(dataset.objects.object, range(first, first + len(dataset.objects)), strict=True)
        )
        objects.append(
            dataset.objects.assign(
                object=dataset.objects.object.map(new),
                image=dataset.objects.image.map(file).map(number),
                split=[
                    s if pooled or s == "train" else f"{name}_{s}" for s in dataset.objects.split
                ],
                name=[f"{name}:{own}" for own in dataset.objects.name],
            )
        )
        ids = range(num_expressions, num_expressions + len(dataset.expressions))
        expressions.append(
            dataset.expressions.assign(expression=ids, object=dataset.expressions.object.map(new))
        )
        first, num_expressions = (
            first + len(dataset.objects),
            num_expressions + len(dataset.expressions),
        )
    return Samples(
        images, pd.concat(objects, ignore_index=True), pd.concat(expressions, ignore_index=True)
    )


def drop_evaluated(samples: Samples) -> tuple[Samples, int]:
    """Without the train objects of images that other splits show, and how many those were."""
    objects = samples.objects
    evaluated = objects.image[objects.split != "train"]
    dropped = (objects.split == "train") & objects.image.isin(evaluated)
    kept = objects[~dropped]
    rest = samples.expressions[samples.expressions.object.isin(kept.object)]
    new = dict(zip(kept.object, range(len(kept)), strict=True))
    return Samples(
        samples.images,
        kept.assign(object=range(len(kept))).reset_index(drop=True),
        rest.assign(expression=range(len(rest)), object=rest.object.map(new)).reset_index(
            drop=True
        ),
    ), int(dropped.sum())


if __name__ == "__main__":
    main(run)
