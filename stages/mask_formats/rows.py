"""The masks of a stage, one after the other, with all that a format may tell of them."""

import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from stages.config.exports import MaskStage
from stages.metrics.iou import foreground
from stages.runtime.foreign_errors import printable
from stages.storage.masks import area, decode, encode
from stages.storage.tables import ResponseMap, Samples, read_maps, read_table

OBJECT = "object"  # the category of objects of which the data set tells none


class ImageRow(NamedTuple):
    """An image of the split."""

    number: int
    file: Path  # absolute
    name: str  # in the folder that all images of the data set are in
    label: str  # the name without its ending, of one image only
    split: str  # of its first object
    width: int
    height: int


class ExpressionRow(NamedTuple):
    number: int
    text: str
    raw: str | None
    kind: str | None


@dataclass(frozen=True)
class MaskRow:
    """A mask: of an object, or, of predictions, of an expression."""

    number: int  # of the expression or the object in the samples
    object: int
    image: ImageRow
    split: str
    category: str
    expressions: list[ExpressionRow]
    counts: str  # COCO's run lengths
    score: float | None

    @property
    def area(self) -> int:
        """Pixels."""
        return area(self.counts, self.image.height, self.image.width)

    def decode(self) -> Any:
        """The mask (H, W)."""
        return decode(self.counts, self.image.height, self.image.width)

    @property
    def texts(self) -> list[str]:
        """The expressions, each once."""
        return list(dict.fromkeys(printable(expression.text) for expression in self.expressions))


class MaskRows:
    """The masks of a stage for the objects of some splits, with their images and categories.

    Can be gone through several times; one shard is in memory at a time.
    """

    def __init__(
        self,
        samples: Samples,
        splits: Sequence[str],
        stage: MaskStage,
        shards: Sequence[Path] = (),
    ) -> None:
        """`shards` are the files of the stage; `ground_truth` has none."""
        parts = [samples.split(split) for split in splits]
        objects = pd.concat([part.objects for part in parts]).drop_duplicates("object")
        part = samples.of(objects)
        self.stage, self.shards = stage, shards
        self.categories = sorted({_category(name) for name in samples.objects.category.unique()})
        split_of = dict(zip(objects.image[::-1], objects.split[::-1], strict=True))
        self.folder, self.images = _name_images(samples, part, split_of)
        self.objects = objects.set_index("object")
        self.expressions: dict[int, list[ExpressionRow]] = {}
        for row in part.expressions.itertuples():
            expression = ExpressionRow(
                int(row.expression), row.text, _known(row.raw), _known(row.kind)
            )
            self.expressions.setdefault(int(row.object), []).append(expression)

    def __iter__(self) -> Iterator[MaskRow]:
        for number, object_id, counts, score in self._masks():
            if object_id not in self.objects.index:
                continue  # of another split
            about = self.objects.loc[object_id]
            expressions = self.expressions.get(object_id, [])
            if self.stage == "predictions":
                expressions = [row for row in expressions if row.number == number]
            yield MaskRow(
                number,
                object_id,
                self.images[int(about["image"])],
                str(about["split"]),
                _category(about["category"]),
                expressions,
                counts,
                score,
            )

    def of_images(self) -> Iterator[tuple[ImageRow, list[MaskRow]]]:
        """Each image with its masks, empty ones left out."""
        rows: dict[int, list[MaskRow]] = {}
        for row in self:
            if row.area:
                rows.setdefault(row.image.number, []).append(row)
        for number, image in self.images.items():
            yield image, rows.get(number, [])

    def _masks(self) -> Iterator[tuple[int, int, str, float | None]]:
        """Number, object, run lengths and score of each mask."""
        if self.stage == "ground_truth":
            for row in self.objects[self.objects["mask"].notna()].itertuples():
                yield int(row.Index), int(row.Index), row.mask, None
        for shard in self.shards:
            if self.stage == "response":
                yield from self._of_maps(shard)
            elif self.stage == "labels":
                for row in read_table("labels", shard).itertuples():
                    yield int(row.object), int(row.object), row.foreground, None
            elif self.stage in ("pseudo_masks", "assigned"):
                for row in read_table("masks", shard).itertuples():
                    yield int(row.object), int(row.object), row.mask, _score(row.score)
            else:
                yield from _of_predictions(shard)

    def _of_maps(self, shard: Path) -> Iterator[tuple[int, int, str, float | None]]:
        for object_id, stored in read_maps(shard).items():
            if object_id in self.objects.index:
                image = self.images[int(self.objects.image[object_id])]
                yield object_id, object_id, _response(stored, image), None


def _name_images(
    samples: Samples, part: Samples, split_of: Mapping[int, str]
) -> tuple[Path, dict[int, ImageRow]]:
    """The folder that all images of the data set are in, and those of a part by their numbers."""
    # Without `..`, which would lead out of the export, and with links as they are.
    files = {file: Path(os.path.normpath(Path(file).absolute())) for file in samples.images.file}
    folder = Path(os.path.commonpath({file.parent for file in files.values()}))
    names = {file: path.relative_to(folder) for file, path in files.items()}
    labels = Counter(name.with_suffix("") for name in names.values())
    images = {}
    for row in part.images.itertuples():
        name = names[row.file]
        label = name.with_suffix("").as_posix()
        if labels[name.with_suffix("")] > 1:  # of another ending: a.png beside a.jpg
            label = name.as_posix().replace(".", "_")
        images[int(row.image)] = ImageRow(
            number=int(row.image),
            file=files[row.file],
            name=name.as_posix(),
            label=label,
            split=split_of[row.image],
            width=int(row.width),
            height=int(row.height),
        )
    return folder, images


def _of_predictions(shard: Path) -> Iterator[tuple[int, int, str, float | None]]:
    for row in read_table("predictions", shard).itertuples():
        counts = row.mask
        if row.no_target:  # as in evaluation, then no pixel counts
            counts = encode(np.zeros((row.height, row.width), dtype=bool))
        yield int(row.expression), int(row.object), counts, _score(row.score)


def _response(stored: ResponseMap, image: ImageRow) -> str:
    """Where a response map is positive, as evaluation scores it."""
    import torch  # takes a while to import

    from stages.data.response_maps import full_map

    grid = torch.from_numpy(stored.grid)[None]
    full = full_map(grid, stored.input_size, (image.height, image.width))[0].numpy()
    return encode(foreground(full))


def _known(value: Any) -> str | None:
    """A text of a table; None where it has none."""
    return str(value) if isinstance(value, str) else None


def _category(value: Any) -> str:
    return _known(value) or OBJECT


def _score(value: float | None) -> float | None:
    return None if value is None or np.isnan(value) else float(value)
