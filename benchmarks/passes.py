"""What each pass over a data set costs for one object, at the published sizes.

    python -m benchmarks.passes [--images 8] [--predictors tris cris ...] [--output passes.json]

Images of 640 x 480 pixels with three objects of three expressions, random weights, noise: times
depend on sizes alone, apart from the walk, whose instances noise makes few or many. On a CPU they
use the threads that torch is given; evaluate uses one core, so that cores divide it. What reads and
writes files is in benchmarks.prepare.
"""

import argparse
import json
import os
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.throughput import TRAININGS, noise
from irnet.affinity.crf import label_images
from irnet.affinity.images import network_input
from irnet.affinity.network import AffinityNetwork
from irnet.affinity.pseudo_masks import find_relations, image_factor, pseudo_masks
from stages.backbones.clip import frozen, load_clip
from stages.config.load import load_configs
from stages.metrics.failures import group_of_counts
from stages.models.judge import load_judge
from stages.models.prms import choose_maps
from stages.models.saved import build_segmentor
from stages.models.tris import build_stage1
from stages.models.zero_shot import ZeroShot
from stages.runtime.device import choose_device, given_threads, inferring
from stages.storage.masks import area, common_area, encode

# What predicts: the models of trainings, and CLIP as it is. On a CPU only TRIS by default.
PREDICTORS = ("tris", "stage1", "zero_shot", "cris", "etris", "detris", "rela_swint", "rela_swinb")
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


def predictor(name: str, experiments: Any) -> tuple[Any, Any]:
    """A model of random weights that predicts masks, and its options."""
    experiment = experiments[TRAININGS[name][0] if name in TRAININGS else "tris_r50_refcoco"]
    if name == "stage1":
        return build_stage1(experiment.stage1, pretrained=False), experiment.stage1
    if name == "zero_shot":
        return ZeroShot(load_clip(experiment.stage1.clip, pretrained=False)), experiment.stage1
    return build_segmentor(experiment.segmentor, pretrained=False), experiment.segmentor


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=8)
    parser.add_argument("--predictors", nargs="+", choices=PREDICTORS)
    parser.add_argument("--output", type=Path, default=Path("results/passes.json"))
    options = parser.parse_args()
    images = options.images
    device = choose_device()
    gpu = device.type == "cuda"
    predictors = options.predictors or (PREDICTORS if gpu else PREDICTORS[:1])
    experiments = load_configs(Path("configs")).experiments
    experiment = experiments["tris_r50_refcoco"]
    draw = np.random.default_rng(0)
    pixels = draw.integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)
    responses = shapes(draw)
    count = images * OBJECTS * EXPRESSIONS

    stage1 = frozen(build_stage1(experiment.stage1, pretrained=False)).to(device)
    judge = load_judge(experiment.judge, pretrained=False).to(device)
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

    def predict(name: str) -> float:
        model, config = predictor(name, experiments)
        model.eval().to(device)
        seen = noise(config, images, device)
        asked = {**seen, "tokens": seen["tokens"][index], "image_index": index}

        def work() -> None:
            with inferring(device, "float32"):
                model.predict(asked)

        return seconds(work, 3)

    network = AffinityNetwork(experiment.affinity.backbone).eval().to(device)
    colors = network_input(pixels, 1)[None].to(device)
    maps = torch.from_numpy(responses).to(device)

    @torch.no_grad()
    def propagate() -> None:
        (relations,) = find_relations(*network.predict(colors), experiment.propagation)
        (masks,) = pseudo_masks([maps], [relations], image_factor(1), experiment.propagation)
        list(masks)

    def label() -> None:
        label_images([pixels], [maps], experiment.labels, device)

    truth = encode(responses[0] > 0.5)

    def evaluate() -> None:
        common = common_area([truth, truth], HEIGHT, WIDTH)
        pixels_of_each = [area(mask, HEIGHT, WIDTH) for mask in (truth, truth)]
        group_of_counts(common, *pixels_of_each, lambda: 0)

    passes: dict[str, dict[str, Any]] = {}
    result = {
        "device": torch.cuda.get_device_name() if gpu else f"CPU, {given_threads()} threads",
        "torch": torch.__version__,
        "cores": os.cpu_count(),
        "unit": f"an object of {EXPRESSIONS} expressions",
        "passes": passes,
    }
    print(f"milliseconds {result['unit']}, {result['device']}")
    objects = images * OBJECTS
    works: dict[str, tuple[Callable[[], float], float]] = {
        "select_maps": (partial(seconds, choose, 3), objects),
        "make_labels": (partial(seconds, label, 1), OBJECTS),
        "propagate": (partial(seconds, propagate, 3), OBJECTS),
        "evaluate": (partial(seconds, evaluate, 20), 1 / EXPRESSIONS),
        **{f"predict {name}": (partial(predict, name), objects) for name in predictors},
    }
    for name, (measure, divisor) in works.items():
        milliseconds = 1000 * measure() / divisor
        on = "core" if name == "evaluate" else "device"
        passes[name] = {"milliseconds": milliseconds, "on": on}
        print(f"{name:24s}{milliseconds:10.2f}{' (one core)' if on == 'core' else ''}", flush=True)
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
