"""Generate RefShapes, the embedded data set, in the layout of REFER's data sets.

Writes `images/`, the refs and, last, `instances.json`: if that is there, everything is. Every
image and its expressions are a function of the seed, the split and the number within the split, so
that another number of images changes no image. testB is harder than the others: its images have 5
or 6 objects, those of the others 2 to 5. The hard variant has 4 to 10 objects an image, which keep
their size in pixels in images of 160, more kinds of expressions, and groups that are objects too.
"""

import json
import logging
import pickle
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from stages.config.datasets import RefShapes
from stages.data.shapes import drawing
from stages.data.shapes.expressions import Expression, Speaker, pick
from stages.data.shapes.hard_expressions import HardSpeaker
from stages.data.shapes.scene import Item, draw_items
from stages.data.shapes.words import SHAPES
from stages.runtime.command_line import main
from stages.storage import masks
from stages.storage.files import replacing

SPLITS = ("train", "val", "testA", "testB")
NUM_ITEMS = {"train": (2, 5), "val": (2, 5), "testA": (2, 5), "testB": (5, 6)}
HARD_ITEMS = {"train": (4, 8), "val": (4, 8), "testA": (4, 8), "testB": (9, 10)}
HARD_SCALE = 0.6  # of radii: 96 / 160
LEAST_EXPRESSIONS = 3  # an object with fewer is drawn but never referred to
JPEG_QUALITY = 92

VERSION = 1

log = logging.getLogger(__name__)


@dataclass
class Records:
    """The data set in REFER's terms; ids are row numbers, from 1."""

    images: list[dict[str, Any]] = field(default_factory=list)
    annotations: list[dict[str, Any]] = field(default_factory=list)
    refs: list[dict[str, Any]] = field(default_factory=list)
    num_sentences: int = 0

    def add_image(self, side: int) -> dict[str, Any]:
        number = len(self.images) + 1
        image = {
            "id": number,
            "file_name": f"refshapes_{number:06d}.jpg",
            "width": side,
            "height": side,
        }
        self.images.append(image)
        return image

    def add_annotation(self, image: dict[str, Any], items: Sequence[Item]) -> int:
        """An annotation of one item, or of several as one object; its number."""
        number = len(self.annotations) + 1
        mask = np.any([drawing.mask(item, image["width"]) for item in items], axis=0)
        corners = np.concatenate([drawing.outline(item) for item in items])
        low, high = corners.min(axis=0), corners.max(axis=0)
        self.annotations.append(
            {
                "id": number,
                "image_id": image["id"],
                "category_id": SHAPES.index(items[0].shape) + 1,
                "bbox": [round(float(value), 2) for value in (*low, *(high - low))],
                "area": int(mask.sum()),
                "segmentation": _segmentation(items, mask),
                "iscrowd": 0,
            }
        )
        return number

    def add_ref(
        self,
        image: dict[str, Any],
        split: str,
        expressions: list[Expression],
        annotations: list[int],
        generalized: bool,
    ) -> None:
        sentences = []
        for expression in expressions:
            sentences.append(
                {
                    "sent_id": self.num_sentences,
                    "sent": expression.text,
                    "raw": expression.text,
                    "tokens": expression.text.split(),
                    "kind": expression.kind,
                }
            )
            self.num_sentences += 1
        categories = [self.annotations[number - 1]["category_id"] for number in annotations]
        ref = {
            "ref_id": len(self.refs) + 1,
            "image_id": image["id"],
            "file_name": image["file_name"],
            "split": split,
            "sentences": sentences,
            "sent_ids": [sentence["sent_id"] for sentence in sentences],
        }
        if generalized:
            ref |= {
                "ann_id": annotations or [-1],
                "category_id": categories or [-1],
                "no_target": not annotations,
            }
        else:
            ref |= {"ann_id": annotations[0], "category_id": categories[0]}
        self.refs.append(ref)


def run(output: Path, config: RefShapes) -> None:
    """Write the data set into the folder `output`."""
    images = output / "images"
    images.mkdir(parents=True, exist_ok=True)
    instances = output / "instances.json"
    instances.unlink(missing_ok=True)
    for left_over in images.glob("refshapes_*.jpg"):
        left_over.unlink()
    records = Records()
    counts = dict.fromkeys(SPLITS, config.test_images)
    counts |= {"train": config.train_images, "val": config.val_images}
    for split in SPLITS:
        for rng, items, pixels in draw_split(config, split, counts[split]):
            image = records.add_image(config.size)
            Image.fromarray(pixels).save(
                images / image["file_name"], quality=JPEG_QUALITY, subsampling=0
            )
            _refer(records, rng, items, image, split, config)
    _write(output, records, config.generalized)
    log.info(
        "%s: %d images, %d objects, %d refs, %d sentences",
        output,
        *map(len, (records.images, records.annotations, records.refs)),
        records.num_sentences,
    )


def draw_split(
    config: RefShapes, split: str, count: int
) -> Iterator[tuple[np.random.Generator, tuple[Item, ...], drawing.Pixels]]:
    """The scenes of one split, each with the random state that its expressions go on from."""
    limits = (HARD_ITEMS if config.hard else NUM_ITEMS)[split]
    scale = HARD_SCALE if config.hard else 1.0
    for number in range(count):
        rng = np.random.default_rng([config.seed, SPLITS.index(split), number])
        items = draw_items(rng, config.size, *limits, scale)
        yield rng, items, drawing.draw_image(rng, items, config.size)


def _refer(
    records: Records,
    rng: np.random.Generator,
    items: tuple[Item, ...],
    image: dict[str, Any],
    split: str,
    config: RefShapes,
) -> None:
    """Add the annotations and refs of one image."""
    numbers = [records.add_annotation(image, [item]) for item in items]
    speaker = (HardSpeaker if config.hard else Speaker)(items, image["width"])
    for target, number in enumerate(numbers):
        count = int(rng.integers(LEAST_EXPRESSIONS, LEAST_EXPRESSIONS + 3))
        expressions = speaker.refer(rng, target, count)
        if len(expressions) >= LEAST_EXPRESSIONS:
            records.add_ref(image, split, expressions, [number], config.generalized)
    if config.generalized:
        groups, nothing = speaker.refer_to_groups(rng, 2), speaker.refer_to_nothing(rng, 3)
        for expression in groups + nothing:
            annotations = [numbers[item] for item in expression.items]
            records.add_ref(image, split, [expression], annotations, True)
    elif isinstance(speaker, HardSpeaker) and speaker.groups:
        group = pick(rng, list(speaker.groups))
        expressions = speaker.refer_to_group(rng, group, LEAST_EXPRESSIONS)
        number = records.add_annotation(image, [items[member] for member in group])
        records.add_ref(image, split, expressions, [number], False)


def _segmentation(items: Sequence[Item], mask: masks.Mask) -> list[list[float]] | dict[str, Any]:
    """COCO's polygons of the items; run lengths if one is a ring, whose hole no polygon has."""
    if any(item.shape == "ring" for item in items):
        return {"size": list(mask.shape), "counts": masks.encode(mask)}
    return [[round(float(value), 2) for value in drawing.outline(item).ravel()] for item in items]


def _write(output: Path, records: Records, generalized: bool) -> None:
    if generalized:
        with replacing(output / "grefs(unc).json") as temporary:
            temporary.write_text(json.dumps(records.refs))
    else:
        with replacing(output / "refs(unc).p") as temporary:
            temporary.write_bytes(pickle.dumps(records.refs, protocol=2))
    categories = [{"id": number, "name": name} for number, name in enumerate(SHAPES, start=1)]
    with replacing(output / "instances.json") as temporary:
        temporary.write_text(
            json.dumps(
                {
                    "images": records.images,
                    "annotations": records.annotations,
                    "categories": categories,
                }
            )
        )


if __name__ == "__main__":
    main(run)
