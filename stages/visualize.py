"""Every expression of a split as images: mask, overlay and response map (one shard).

Beside the record lies a folder for each split, in it one for each image, named by its file and its
number in the samples; in that the image, and three files for each expression, named by its number
and its words. Maps are drawn one after the other, so that memory does not grow with the split.
"""

import logging
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import groupby
from pathlib import Path

import numpy as np
from PIL import Image

from stages.config.steps import Evaluation
from stages.data.images import read_image
from stages.data.shards import take_shard
from stages.inference.inference import ExpressionPrediction, Inference
from stages.inference.split_data import batches_with_shapes, data_for
from stages.models.saved import load_model
from stages.reporting.overlay import mask_image, mask_overlay, response_overlay
from stages.runtime.command_line import main
from stages.runtime.device import choose_device
from stages.storage.files import plain_name, replacing_folder, write_json
from stages.storage.tables import read_samples

VERSION = 1
COMPRESSION = 1  # of PNG, the fastest: files are a third larger, and written in a fifth of the time

log = logging.getLogger(__name__)


def run(
    samples: Path,
    record: Path,
    split: str,
    config: Evaluation,
    model: Path,
    shard: int = 0,
    shards: int = 1,
    images: Path | None = None,
    workers: int = 1,
) -> None:
    """Predictions are those of stages/predict.py; `workers` threads draw them.

    `images` are those of resize_images; without them they are decoded here.
    """
    inference = Inference(load_model(model), choose_device(), config.precision)
    part = take_shard(read_samples(samples).split(split), shard, shards, config.batch_size)
    data = data_for(inference, part, images)
    texts = dict(zip(part.expressions.expression, part.expressions.text, strict=True))
    folder = record.parent / split
    with ThreadPoolExecutor(workers) as pool:
        for batch, shapes in batches_with_shapes(inference, data, config.batch_size):
            seen = data.images.loc[batch["image"].tolist()]
            results = zip(
                batch["image_index"].tolist(),
                batch["expression"].tolist(),
                inference.predict(batch, shapes),
                strict=True,
            )
            for place, of_image in groupby(results, key=lambda result: result[0]):
                row = seen.iloc[place]
                image = read_image(row.file)
                with replacing_folder(folder / image_name(row.file, int(row.name))) as made:
                    image.save(made / "image.png", compress_level=COMPRESSION)
                    jobs = (
                        _drawing(made / expression_name(texts[number], number), image, result)
                        for _, number, result in of_image
                    )
                    _run_all(pool, jobs, ahead=2 * workers)
    counts = {"images": len(part.images), "expressions": len(part.expressions)}
    write_json(record, {"split": split, **counts})
    log.info("%d images, %d expressions", *counts.values())


def image_name(file: str, number: int) -> str:
    """The folder of an image."""
    return "-".join(filter(None, (plain_name(Path(file).stem), f"{number:06d}")))


def expression_name(text: str, number: int) -> str:
    """What the files of an expression are called, without their endings."""
    return "-".join(filter(None, (f"{number:06d}", plain_name(text, 60))))


def _drawing(place: Path, image: Image.Image, result: ExpressionPrediction) -> Callable[[], None]:
    """What writes the three files of an expression."""

    def draw() -> None:
        # As in evaluation, the mask is empty if no target is predicted.
        mask = result.mask & (not result.no_target)
        drawn = {
            "mask": mask_image(mask),
            "overlay": mask_overlay(image, mask),
            "response": response_overlay(image, np.asarray(result.map)),
        }
        for kind, picture in drawn.items():
            file = place.with_name(f"{place.name}.{kind}.png")
            picture.save(file, compress_level=COMPRESSION)

    return draw


def _run_all(pool: ThreadPoolExecutor, jobs: Iterable[Callable[[], None]], ahead: int) -> None:
    """Runs jobs; at most so many wait, so that their maps fit in memory."""
    waiting: deque[Future[None]] = deque()
    for job in jobs:
        waiting.append(pool.submit(job))
        if len(waiting) > ahead:
            waiting.popleft().result()
    for future in waiting:
        future.result()


if __name__ == "__main__":
    main(run)
