"""What a training step and a prediction cost on this machine, for the published experiments.

    python -m benchmarks.throughput [--experiments tris_r50_refcoco cris_r50_refcoco ...]

The models have their published sizes, batches and number formats, and random weights; images and
texts are noise, ready in memory. Memory is the most that torch held of the GPU.
"""

import argparse
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from stages.backbones.clip import load_clip
from stages.config.experiment import Experiment
from stages.config.load import load_configs
from stages.config.section import Training
from stages.models.saved import Predictor, build_segmentor
from stages.models.tris import Stage1Trainer, build_stage1
from stages.runtime.device import autocast, choose_device
from stages.training.engine import _Run

EXPERIMENTS = [
    "tris_r50_refcoco",
    "cris_r50_refcoco",
    "etris_r101_refcoco",
    "detris_base_refcoco",
    "rela_swint_grefcoco",
    "rela_swinb_refcoco",
]
TEXTS = 1000  # expressions whose features the judge of stage 1 has
WARM_UP = 3  # steps that are not counted


def noise(config: Any, items: int, device: torch.device) -> dict[str, Tensor]:
    """A batch of one expression an image."""
    size = config.image_size
    first, last = 101, 102  # ids that every vocabulary has
    tokens = torch.randint(103, 5000, (items, config.num_tokens))
    tokens[:, 0], tokens[:, -1] = first, 49407 if _reads_clip_tokens(config) else last
    batch = {
        "images": torch.randn(items, 3, size, size),
        "tokens": tokens,
        "image_index": torch.arange(items),
        "expression": torch.randint(0, TEXTS, (items,)),
        "negatives": torch.randint(0, TEXTS, (items, 3)),
        "masks": (torch.rand(items, size, size) < 0.2).float(),
        "no_target": torch.zeros(items),
    }
    return {name: value.to(device) for name, value in batch.items()}


def _reads_clip_tokens(config: Any) -> bool:
    return getattr(config, "text", "clip") != "bert"


def build(experiment: Experiment, what: str) -> tuple[nn.Module, Any]:
    """Stage 1 or the segmentor of an experiment, and its options."""
    if what == "segmentor":
        return build_segmentor(experiment.segmentor, pretrained=False), experiment.segmentor
    stage1 = experiment.stage1
    judge = load_clip(experiment.judge, pretrained=False)
    texts = torch.randn(TEXTS, judge.embedding)
    model = build_stage1(stage1, pretrained=False)
    return Stage1Trainer(stage1, model, judge, texts), stage1


def measure(experiment: Experiment, what: str, steps: int, device: torch.device) -> str:
    """A row: training and prediction of one model."""
    model, config = build(experiment, what)
    training = cast(Training, config)
    with tempfile.TemporaryDirectory() as folder:
        run = _Run(model, training, device, Path(folder) / "model.safetensors", "", 10**6)
        batch = noise(config, training.batch_size, device)
        seconds = _seconds(partial(run.advance, [(batch, 1.0)]), steps, device)
        trained = training.batch_size / seconds
        memory = torch.cuda.max_memory_allocated() / 2**30 if device.type == "cuda" else 0.0
        del run
    kept = cast(Any, model).kept().eval()

    def predict() -> None:
        with torch.inference_mode(), autocast(device):
            cast(Predictor, kept).predict(batch)

    predicted = training.batch_size / _seconds(predict, steps, device)
    name = f"{what} {getattr(config, 'model', 'tris')}"
    return (
        f"{name:20s}{training.image_size:6d}{training.batch_size:7d}{trained:12.1f}"
        f"{memory:12.1f}{predicted:14.1f}"
    )


def _seconds(step: Any, steps: int, device: torch.device) -> float:
    """Mean time of a step, after some that warm up."""
    for _ in range(WARM_UP):
        step()
    _wait(device)
    start = time.perf_counter()
    for _ in range(steps):
        step()
    _wait(device)
    return (time.perf_counter() - start) / steps


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--experiments", nargs="+", default=EXPERIMENTS)
    parser.add_argument("--steps", type=int, default=10)
    options = parser.parse_args()
    device = choose_device()
    about = torch.cuda.get_device_name() if device.type == "cuda" else "CPU"
    print(f"{about}, torch {torch.__version__}")
    print("                      size  batch  trained /s  memory GiB  predicted /s")
    experiments = load_configs(Path("configs")).experiments
    for name in options.experiments:
        experiment = experiments[name]
        for what in ("stage1", "segmentor") if experiment.from_text else ("segmentor",):
            if device.type == "cuda":
                torch.cuda.empty_cache()
                torch.cuda.reset_peak_memory_stats()
            print(measure(experiment, what, options.steps, device), name, flush=True)


if __name__ == "__main__":
    main()
