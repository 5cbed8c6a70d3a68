"""Confident labels of objects: response maps, refined by a dense CRF.

Official step_refer/cam_to_ir_label.py. One process labels all objects of an image; images are
distributed over processes.
"""

import logging
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing import get_all_start_methods, get_context
from multiprocessing.context import BaseContext
from pathlib import Path
from typing import Any

import torch

from irnet.affinity.crf import DenseCrf, confident_labels
from irnet.affinity.images import read_rgb
from irnet.affinity.pairs import FOREGROUND, IGNORE
from irnet.affinity.responses import MappedImage, full_size, mapped_images
from stages.config.steps import Labels
from stages.runtime.command_line import main
from stages.runtime.errors import InputError
from stages.storage.masks import decode, encode
from stages.storage.tables import read_samples, write_table
from stages.training.progress import Progress

VERSION = 1

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Task:
    """The work of one process on one image."""

    image: MappedImage
    config: Labels


def run(samples: Path, maps: list[Path], labels: Path, config: Labels, workers: int = 1) -> None:
    images = mapped_images(read_samples(samples), maps)
    tasks = [Task(image, config) for image in images]
    progress = Progress("labels", 0, len(tasks))
    empty: list[bool] = []

    def rows() -> Iterator[dict[str, Any]]:
        for number, labeled in enumerate(_labeled(tasks, workers), start=1):
            yield from labeled
            masks = [decode(row["foreground"], row["height"], row["width"]) for row in labeled]
            empty.extend(not mask.any() for mask in masks)
            progress.update(number, {})

    write_table(labels, "labels", rows())
    if any(empty):
        log.warning("%d of %d objects have no confident foreground", sum(empty), len(empty))


def label_image(task: Task) -> list[dict[str, Any]]:
    """A row of the labels table for each object of an image."""
    image = task.image
    crf = DenseCrf(read_rgb(image.file, image.width, image.height), task.config)
    rows = []
    for object_id, response in zip(image.objects, full_size(image), strict=True):
        labels = confident_labels(response.numpy(), crf)
        rows.append(
            {
                "object": object_id,
                "height": image.height,
                "width": image.width,
                "foreground": encode(labels == FOREGROUND),
                "ignore": encode(labels == IGNORE),
            }
        )
    return rows


def _labeled(tasks: list[Task], workers: int) -> Iterator[list[dict[str, Any]]]:
    """The rows of each task, in order; errors name the image."""
    if workers <= 1:
        for task in tasks:
            yield _named(task)
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
