"""The demo's segmentor as a file of half the size, which `risflow predict` takes before any run.

    python -m benchmarks.released_model

Weights are rounded to 16 bits; prints the largest change of a response on images of the data set.
"""

from pathlib import Path

import numpy as np
import torch

from risflow.predict.model import Model
from risflow.project.project import RELEASED
from stages.storage.tables import read_samples
from stages.storage.weights import load_weights, save_weights

TRAINED = Path("results/refshapes_tris/segmentor/model.safetensors")
SAMPLES = Path("results/refshapes_tris/samples")
IMAGES = 20


def main() -> None:
    state, about = load_weights(TRAINED)
    halves = {name: x.half() if x.dtype == torch.float32 else x for name, x in state.items()}
    save_weights(RELEASED, halves, about)
    before, after = Model(TRAINED, "cpu"), Model(RELEASED, "cpu")
    samples = read_samples(SAMPLES).split("val")
    rows = samples.expressions.merge(samples.objects, on="object").merge(samples.images, on="image")
    change, different, pixels = 0.0, 0, 0
    for _, row in rows.groupby("image").head(1).head(IMAGES).iterrows():
        first, second = (model.predict(row["file"], row["text"]) for model in (before, after))
        change = max(change, float(np.abs(first.maps - second.maps).max()))
        different += int((first.masks != second.masks).sum())
        pixels += first.masks.size
    print(f"{RELEASED}: {RELEASED.stat().st_size / 1e6:.1f} MB; responses change by {change:.1e}")
    print(f"{different} of {pixels:,} pixels of masks are different")


if __name__ == "__main__":
    main()
