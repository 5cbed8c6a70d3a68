"""Confident labels of objects: response maps, refined by a dense CRF.

Official step_refer/cam_to_ir_label.py. All objects of an image are labeled together: on a GPU with
those of other images, on a CPU each image in one of several processes.
"""

import logging
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing import get_all_start_methods, get_context
from multiprocessing.context import BaseContext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from irnet.affinity.batches import in_batches
from irnet.affinity.crf import label_images
from irnet.affinity.images import Rgb, read_rgb
from irnet.affinity.pairs import FOREGROUND, IGNORE
from irnet.affinity.responses import MappedImage, full_size, mapped_images
from stages.config.section import CrfName
from stages.config.steps import Labels
from stages.runtime.command_line import main
from stages.runtime.device import choose_device
from stages.runtime.errors import InputError
from stages.runtime.loading import ahead
from stages.storage.collapse import Tally
from stages.storage.encode_masks import encode_all
from stages.storage.masks import area
from stages.storage.tables import read_samples, write_table
from stages.training.progress import Progress

VERSION = 1

# Of images that share a GPU: 13 of 640 x 480, whose lattices take 1.6 GB. A larger image is alone.
PIXELS_AT_ONCE = 4_000_000
CPU = torch.device("cpu")

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Task:
    """The work of one process on one image."""

    image: MappedImage
    config: Labels
    crf: CrfName


def run(
    samples: Path,
    maps: list[Path],
    labels: Path,
    config: Labels,
    workers: int = 1,
    crf: CrfName = "auto",
) -> None:
    """`crf` is that of `Execution`: pydensecrf runs on the CPU even where there is a GPU."""
    images = mapped_images(read_samples(samples), maps)
    device = choose_device() if crf != "pydensecrf" else CPU
    if device.type == "cpu":
        labeled = _labeled([Task(image, config, crf) for image in images], workers)
    else:
        labeled = _labeled_on_gpu(images, config, crf, device, workers)
    progress = Progress("labels", 0, len(images))
    tally = Tally("labels")

    def rows() -> Iterator[dict[str, Any]]:
        for number, of_image in enumerate(labeled, start=1):
            for row in of_image:
                size = row["height"], row["width"]
                tally.add(area(row["foreground"], *size), size[0] * size[1])
                yield row
            progress.update(number, {})

    write_table(labels, "labels", rows())
    tally.conclude(labels)


def label_image(task: Task) -> list[dict[str, Any]]:
    """A row of the labels table for each object of an image."""
    pixels, responses = _read(task.image)
    (labels,) = label_images([pixels], [responses], task.config, CPU, task.crf)
    return _rows(task.image, labels)


def _read(image: MappedImage) -> tuple[Rgb, Tensor]:
    return read_rgb(image.file, image.width, image.height), full_size(image)


def _rows(image: MappedImage, labels: Tensor) -> list[dict[str, Any]]:
    foreground, ignore = encode_all(labels == FOREGROUND), encode_all(labels == IGNORE)
    return [
        {
            "object": object_id,
            "height": image.height,
            "width": image.width,
            "foreground": foreground[place],
            "ignore": ignore[place],
        }
        for place, object_id in enumerate(image.objects)
    ]


def _labeled_on_gpu(
    images: Sequence[MappedImage],
    config: Labels,
    crf: CrfName,
    device: torch.device,
    workers: int,
) -> Iterator[list[dict[str, Any]]]:
    """The rows of each image, in order; threads read the images of the next batch."""
    batches = in_batches(images, PIXELS_AT_ONCE)
    with ThreadPoolExecutor(max(1, workers)) as pool:
        for batch, contents in ahead(pool, _read, batches):
            pixels, responses = zip(*contents, strict=True)
            labels = label_images(pixels, responses, config, device, crf)
            yield from map(_rows, batch, labels)


def _labeled(tasks: list[Task], workers: int) -> Iterator[list[dict[str, Any]]]:
    """The rows of each task, in order; errors name the image."""
    if workers <= 1:
        yield from map(_named, tasks)
        return
    with ProcessPoolExecutor(workers, _new_processes(), initializer=_start_worker) as pool:
        futures = [pool.submit(_named, task) for task in tasks]
        try:
            yield from _results(tasks, futures)
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _results(
    tasks: Iterable[Task], futures: Iterable[Future[list[dict[str, Any]]]]
) -> Iterator[list[dict[str, Any]]]:
    for task, future in zip(tasks, futures, strict=True):
        try:
            yield future.result()
        except BrokenProcessPool as error:
            raise RuntimeError(
                f"{task.image.file}: a process ended without an error at this image or one of the"
                " next (out of memory?); use fewer workers"
            ) from error


def _named(task: Task) -> list[dict[str, Any]]:
    try:
        return label_image(task)
    except InputError:
        raise
    except Exception as error:
        raise RuntimeError(f"{task.image.file}: {error}") from error


def _new_processes() -> BaseContext:
    """Processes that fork from one that has only imported this module, where that is possible.

    A fork of this process can hang, because torch has run in it. New processes would each import
    torch, for seconds.
    """
    if "forkserver" not in get_all_start_methods():
        return get_context("spawn")
    context = get_context("forkserver")
    context.set_forkserver_preload(["irnet.make_labels"])
    return context


def _start_worker() -> None:
    torch.set_num_threads(1)  # one process a core


if __name__ == "__main__":
    main(run)
