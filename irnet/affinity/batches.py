"""Images that are computed together."""

from collections.abc import Iterator, Sequence
from itertools import groupby

from irnet.affinity.images import Rgb, read_rgb
from irnet.affinity.responses import MappedImage

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
