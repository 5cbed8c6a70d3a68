"""What each pass over a data set costs for one object, at the published sizes.

    python -m benchmarks.passes [--images 8]

Images of 640 x 480 pixels with three objects of three expressions, random weights, noise: times
depend on sizes alone, apart from the walk, whose instances noise makes few or many. CPU passes use
one thread, so that cores divide them. What reads and writes files is in benchmarks.prepare.
"""

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from benchmarks.throughput import noise
from irnet.affinity.crf import label_images
from irnet.affinity.images import network_input
from irnet.affinity.network import AffinityNetwork
from irnet.affinity.pseudo_masks import find_relations, image_factor, pseudo_masks
from stages.backbones.clip import frozen, load_clip
from stages.config.load import load_configs
from stages.metrics.failures import group_of_counts
from stages.models.prms import choose_maps
from stages.models.saved import build_segmentor
from stages.models.tris import build_stage1
from stages.runtime.device import choose_device, inferring
from stages.storage.masks import area, common_area, encode

WIDTH, HEIGHT, OBJECTS, EXPRESSIONS = 640, 480, 3, 3  # an image, its objects, of each of them


def shapes(draw: np.random.Generator) -> np.ndarray:
    """Response maps (OBJECTS, H, W) in [0, 1]: blurred discs."""
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    centers = draw.uniform((100, 100), (380, 540), (OBJECTS, 2))
    far = [np.hypot(rows - y, columns - x) for y, x in centers]
    return np.stack([np.clip(1.2 - d / 120, 0, 1) for d in far]).astype(np.float32)


def seconds(work: Callable[[], object], times: int) -> float:
    """Mean seconds of some runs, after one that warms up."""
    work()
    _wait()
    start = time.perf_counter()
    for _ in range(times):
        work()
    _wait()
    return (time.perf_counter() - start) / times


def _wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=8)
    images = parser.parse_args().images
    device = choose_device()
    experiment = load_configs(Path("configs")).experiments["tris_r50_refcoco"]
    draw = np.random.default_rng(0)
    pixels = draw.integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)
    responses = shapes(draw)
    count = images * OBJECTS * EXPRESSIONS

    stage1 = frozen(build_stage1(experiment.stage1, pretrained=False)).to(device)
    judge = frozen(load_clip(experiment.judge, pretrained=False)).to(device)
    batch = noise(experiment.stage1, images, device)
    index = torch.arange(images, device=device).repeat_interleave(OBJECTS * EXPRESSIONS)
    tokens = batch["tokens"][index]
    texts = torch.randn(count, judge.embedding, device=device)

    def choose() -> None:
        with inferring(device, "float32"):
            grids = stage1(batch["images"], tokens, index)
            choose_maps(
                judge, batch["images"], grids, texts, index, [EXPRESSIONS] * (images * OBJECTS)
            )

    segmentor = build_segmentor(experiment.segmentor, pretrained=False).eval().to(device)
    asked = {**batch, "tokens": tokens, "image_index": index}

    def predict() -> None:
        with inferring(device, "float32"):
            segmentor.predict(asked)  # type: ignore[operator]

    network = AffinityNetwork(experiment.affinity.backbone).eval().to(device)
    colors = network_input(pixels, 1)[None].to(device)
    maps = torch.from_numpy(responses).to(device)

    @torch.no_grad()
    def propagate() -> None:
        (relations,) = find_relations(*network.predict(colors), experiment.propagation)
        pseudo_masks(maps, relations, image_factor(1), experiment.propagation)

    def label() -> None:
        label_images([pixels], [maps], experiment.labels, device)

    truth = encode(responses[0] > 0.5)

    def evaluate() -> None:
        common = common_area([truth, truth], HEIGHT, WIDTH)
        pixels_of_each = [area(mask, HEIGHT, WIDTH) for mask in (truth, truth)]
        group_of_counts(common, *pixels_of_each, lambda: 0)

    where = torch.cuda.get_device_name() if device.type == "cuda" else "CPU"
    print(f"milliseconds an object of {EXPRESSIONS} expressions, {where}")
    objects = images * OBJECTS
    for name, work, divisor, times in (
        ("select_maps", choose, objects, 3),
        ("make_labels", label, OBJECTS, 1),
        ("propagate", propagate, OBJECTS, 3),
        ("predict", predict, objects, 3),
        ("evaluate (one core)", evaluate, 1 / EXPRESSIONS, 20),
    ):
        print(f"{name:24s}{1000 * seconds(work, times) / divisor:10.2f}", flush=True)


if __name__ == "__main__":
    main()
