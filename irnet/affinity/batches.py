"""Images that are computed together, and read while those before them are computed."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor, Future
from itertools import groupby, islice
from typing import TypeVar

from irnet.affinity.images import Rgb, read_rgb
from irnet.affinity.responses import MappedImage

Content = TypeVar("Content")

PIXELS_AT_ONCE = {"cpu": 0, "cuda": 2_000_000}  # of images that the network sees together


def in_batches(images: Sequence[MappedImage], pixels: int) -> Iterator[list[MappedImage]]:
    """Images in order, those of a batch with at most so many pixels together, or one alone."""
    batch: list[MappedImage] = []
    total = 0
    for image in images:
        size = image.height * image.width
        if batch and total + size > pixels:
            yield batch
            batch, total = [], 0
        batch.append(image)
        total += size
    if batch:
        yield batch


def same_size(images: Sequence[MappedImage], pixels: int) -> Iterator[list[MappedImage]]:
    """Images in batches of one size, with at most so many pixels together, or one alone."""
    size = [(image.height, image.width) for image in images]
    order = sorted(range(len(images)), key=lambda place: size[place])
    for _, places in groupby(order, key=lambda place: size[place]):
        yield from in_batches([images[place] for place in places], pixels)


def read(image: MappedImage) -> Rgb:
    """The pixels of an image."""
    return read_rgb(image.file, image.width, image.height)


def ahead(
    pool: Executor,
    read: Callable[[MappedImage], Content],
    batches: Iterable[list[MappedImage]],
) -> Iterator[tuple[list[MappedImage], list[Content]]]:
    """Batches with the content of their images; the pool reads one batch ahead."""
    remaining = iter(batches)
    started: deque[tuple[list[MappedImage], list[Future[Content]]]] = deque()

    def start(count: int) -> None:
        for batch in islice(remaining, count):
            started.append((batch, [pool.submit(read, image) for image in batch]))

    start(2)
    while started:
        batch, futures = started.popleft()
        yield batch, [future.result() for future in futures]
        start(1)
