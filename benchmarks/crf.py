"""The dense CRF in torch against pydensecrf: seconds, their ratio, and labels that differ.

    python -m benchmarks.crf [--size 640x480] [--labelings 1 2 4 8]

On photographs of scikit-image. An object has two labelings. Both run on one thread, so that cores
divide them; times are of the processor, so that other programs hardly count.
"""

import argparse
import time

import numpy as np
import skimage.data
import torch
from numpy.typing import NDArray
from PIL import Image

from irnet.affinity.crf import DenseCrf
from irnet.affinity.torch_crf import refine
from stages.config.steps import Labels

PHOTOGRAPHS = ("astronaut", "chelsea", "coffee")
CPU = torch.device("cpu")


def photograph(name: str, width: int, height: int) -> NDArray[np.uint8]:
    """A photograph (height, width, 3) that comes with scikit-image."""
    full = Image.fromarray(getattr(skimage.data, name)())
    return np.array(full.resize((width, height), Image.Resampling.BICUBIC))


def rough_masks(count: int, width: int, height: int) -> NDArray[np.bool_]:
    """Discs (count, height, width), as rough as thresholded response maps."""
    draw = np.random.default_rng(0)
    rows, columns = np.mgrid[:height, :width]
    centers = draw.uniform(0.2, 0.8, (count, 2)) * (height, width)
    radii = draw.uniform(0.1, 0.3, count) * height
    return np.stack(
        [
            np.hypot(rows - y, columns - x) < radius
            for (y, x), radius in zip(centers, radii, strict=True)
        ]
    )


def by_pydensecrf(
    image: NDArray[np.uint8], masks: NDArray[np.bool_], config: Labels
) -> NDArray[np.bool_]:
    crf = DenseCrf(image, config)
    return np.stack([crf.refine(mask) for mask in masks])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", default="640x480", help="width x height")
    parser.add_argument("--labelings", nargs="+", type=int, default=[1, 2, 4, 8])
    options = parser.parse_args()
    width, height = map(int, options.size.split("x"))
    torch.set_num_threads(1)
    config = Labels()
    print("photograph   labelings  pydensecrf s   torch s   ratio   differ")
    for name in PHOTOGRAPHS:
        image = photograph(name, width, height)
        for count in options.labelings:
            masks = rough_masks(count, width, height)
            start = time.process_time()
            expected = by_pydensecrf(image, masks, config)
            middle = time.process_time()
            (ours,) = refine([image], [torch.from_numpy(masks)], config, CPU)
            theirs, own = middle - start, time.process_time() - middle
            differ = int((ours.numpy() != expected).sum())
            print(
                f"{name:12s}{count:10d}{theirs:14.2f}{own:10.2f}{theirs / own:8.2f}{differ:9d}",
                flush=True,
            )


if __name__ == "__main__":
    main()
