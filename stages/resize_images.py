"""Decode and resize every image of a data set once, for all steps and epochs that see it so.

The file is a plain .npy of bytes (N, 3, S, S), the row of an image being its number, so that any
number of processes shares it without holding it in memory.
"""

import logging
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from stages.data.images import read_image
from stages.data.resize_modes import RESIZE_MODES, ResizeModeName
from stages.runtime.command_line import main
from stages.storage.files import replacing, require_space
from stages.storage.tables import read_table, sample_files

VERSION = 1

log = logging.getLogger(__name__)


def run(
    samples: Path, images: Path, resize_mode: ResizeModeName, size: int, workers: int = 1
) -> None:
    """Write `images` (.npy): all images of the samples in squares of `size` pixels.

    Raises InputError if the disk has no room for them.
    """
    files = read_table("images", sample_files(samples)[0]).file.tolist()
    shape = (len(files), 3, size, size)
    images.parent.mkdir(parents=True, exist_ok=True)
    require_space(images.parent, int(np.prod(shape)), images)
    frame = RESIZE_MODES[resize_mode].image
    with replacing(images) as temporary:
        pixels = np.lib.format.open_memmap(temporary, mode="w+", dtype=np.uint8, shape=shape)
        with temporary.open("r+b") as file:  # a disk that is full later would kill the process
            os.posix_fallocate(file.fileno(), 0, temporary.stat().st_size)

        def fill(row: int) -> None:
            pixels[row] = frame(read_image(files[row]), size).numpy()

        with ThreadPoolExecutor(workers) as pool:
            for _ in pool.map(fill, range(len(files))):
                pass
        pixels.flush()
    log.info("%d images, %s bytes", len(files), f"{images.stat().st_size:,}")


if __name__ == "__main__":
    main(run)
