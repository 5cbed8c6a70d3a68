"""What trainings cost on this machine: items a second with and without loading, and memory.

    python -m benchmarks.throughput [--trainings stage1 affinity tris ...] [--output speed.json]

On a GPU the models have their published sizes, batches and number formats, on a CPU those of the
embedded data set. Weights are random. Without loading, a batch of noise is ready on the device.
With loading, items are read from JPEG pictures of 640 x 480 pixels that are made here, decoded and
resized once as those of a large data set are; the affinity network decodes them each time, at
random scales. FLOPs are those that torch counts in a step (products, convolutions, attention), as a
share of the rate of a large bfloat16 product here. Memory is the most that torch held of the GPU.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, cast

import pandas as pd
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.scenes import RandomWords, make_scenes, referring_data
from irnet.affinity.dataset import LabeledObjects
from irnet.affinity.network import RelationTraining
from irnet.affinity.pairs import IGNORE
from stages.backbones.clip import read_description
from stages.config.experiment import Experiment
from stages.config.load import load_configs
from stages.config.section import Execution, Training
from stages.config.steps import CELL
from stages.models.judge import load_judge
from stages.models.saved import build_segmentor
from stages.models.tris import Stage1Trainer, build_stage1
from stages.runtime.device import choose_device, given_threads, set_up_gpu
from stages.runtime.loading import count_workers
from stages.training.batches import WHOLE_STEP, Steps
from stages.training.engine import _Run

# Of each training: its experiment on a GPU and on a CPU, and what of it is trained.
TRAININGS = {
    "stage1": ("tris_r50_refcoco", "refshapes_tris", "stage1"),
    "affinity": ("tris_r50_refcoco", "refshapes_tris", "affinity"),
    "tris": ("tris_r50_refcoco", "refshapes_tris", "segmentor"),
    "cris": ("cris_r50_refcoco", "refshapes_cris", "segmentor"),
    "etris": ("etris_r101_refcoco", "refshapes_etris", "segmentor"),
    "detris": ("detris_base_refcoco", "refshapes_detris", "segmentor"),
    "rela_swint": ("rela_swint_grefcoco", "refshapes_rela", "segmentor"),
    "rela_swinb": ("rela_swinb_refcoco", "refshapes_rela", "segmentor"),
}
TEXTS = 1000  # expressions whose features the judge of stage 1 has
IMAGES = 96  # pictures that are made
WARM_UP = 3  # steps that are not counted; on a CPU one
MATMUL = 8192  # side of the matrices of the product, on a CPU an eighth of it
COLUMNS = (
    ("training", "training"),
    ("batch", "batch"),
    ("items_per_second", "items /s"),
    ("with_loading", "with loading"),
    ("loading_alone", "loading alone"),
    ("waiting_for_data", "waiting"),
    ("tflops", "TFLOP/s"),
    ("share_of_matmul", "of matmul"),
    ("memory_gib", "memory GiB"),
)


def words_of(config: Any) -> RandomWords:
    """Tokens that the text encoder of a model knows."""
    if getattr(config, "text", "clip") == "bert":
        return RandomWords(config.num_tokens, 101, 102, (103, 5000))
    size = read_description(config.clip)["text_cfg"]["vocab_size"]
    return RandomWords(config.num_tokens, size - 2, size - 1, (2, min(5000, size - 2)))


def noise(config: Any, items: int, device: torch.device) -> dict[str, Tensor]:
    """A batch of one expression an image, or of one object an image for the affinity network."""
    size = getattr(config, "image_size", None) or config.crop_size
    batch = {"images": torch.randn(items, 3, size, size), "image_index": torch.arange(items)}
    if hasattr(config, "crop_size"):
        labels = torch.randint(0, 3, (items, size // CELL, size // CELL), dtype=torch.uint8)
        batch["labels"] = labels.masked_fill(labels == 2, IGNORE)
    else:
        batch["tokens"] = words_of(config)([""] * items)
        batch["expression"] = torch.randint(0, TEXTS, (items,))
        batch["negatives"] = torch.randint(0, TEXTS, (items, 3))
        batch["masks"] = (torch.rand(items, size, size) < 0.2).float()
        batch["no_target"] = torch.zeros(items)
    return {name: value.to(device) for name, value in batch.items()}


def build(experiment: Experiment, what: str) -> tuple[nn.Module, Any]:
    """A training of an experiment, and its options."""
    if what == "segmentor":
        return build_segmentor(experiment.segmentor, pretrained=False), experiment.segmentor
    if what == "affinity":
        config = experiment.affinity.model_copy(update={"weights": None})
        return RelationTraining(config), config
    stage1 = experiment.stage1
    judge = load_judge(experiment.judge, pretrained=False)
    texts = torch.randn(TEXTS, judge.embedding)
    model = build_stage1(stage1, pretrained=False)
    return Stage1Trainer(stage1, model, judge, texts), stage1


def start(experiment: Experiment, what: str, execution: Execution, folder: Path) -> _Run:
    """A training that has not taken a step."""
    model, config = build(experiment, what)
    device = choose_device()
    if device.type == "cuda":
        set_up_gpu(config.precision, execution.deterministic, not config.group_by_image)
    return _Run(model, config, device, folder / "model.safetensors", "", 10**6, execution)


def data_of(config: Any, what: str, objects: pd.DataFrame, folder: Path | None) -> Any:
    """The items of a training, of the pictures."""
    if what == "affinity":
        return LabeledObjects(objects, config)
    options = {"share_images": False, "negatives": config.negatives} if what == "stage1" else {}
    words = words_of(config)
    return referring_data(objects, words, config.image_size, config.resize_mode, folder, **options)


def measure(
    name: str,
    experiment: Experiment,
    what: str,
    objects: pd.DataFrame,
    folder: Path,
    options: argparse.Namespace,
    matmul: float,
) -> dict[str, Any]:
    """The figures of one training."""
    execution = Execution(
        workers=options.workers, compile=options.compile, recompute=options.recompute
    )
    run = start(experiment, what, execution, folder)
    config, device = cast(Any, run.config), run.device
    batch = noise(config, config.batch_size, device)
    step = partial(run.advance, [(batch, WHOLE_STEP)])
    seconds = _seconds(step, options.seconds, device)
    row: dict[str, Any] = {
        "training": name,
        "batch": config.batch_size,
        "items_per_second": config.batch_size / seconds,
        "memory_gib": torch.cuda.max_memory_allocated() / 2**30 if device.type == "cuda" else None,
    }
    with FlopCounterMode(display=False) as counter:
        step()
    row["tflops"] = counter.get_total_flops() / seconds / 1e12
    row["share_of_matmul"] = row["tflops"] / matmul
    if options.loading:
        kept = None if options.decode else folder
        row |= with_loading(run, data_of(config, what, objects, kept), options)
    return row


def with_loading(run: _Run, data: Any, options: argparse.Namespace) -> dict[str, float]:
    """Items a second of the loader alone, then of the training; the share that it waits."""
    config = run.config.model_copy(update={"epochs": 10**6})
    run.prepare = data.prepare
    workers = count_workers(run.device, options.workers)
    steps = Steps(data, cast(Training, config), 1, 0, workers)
    loaded = iter(steps)
    for _ in range(1 + workers):
        next(loaded)
    items, begin = 0, time.perf_counter()
    while time.perf_counter() - begin < options.seconds / 2:
        items += len(next(loaded)[0][0]["image_index"])
    alone = items / (time.perf_counter() - begin)
    run.advance(next(loaded))
    _wait(run.device)
    items, waited, begin = 0, steps.waited, time.perf_counter()
    while time.perf_counter() - begin < options.seconds:
        batches = next(loaded)
        items += len(batches[0][0]["image_index"])
        run.advance(batches)
        _wait(run.device)
    seconds = time.perf_counter() - begin
    return {
        "loading_alone": alone,
        "with_loading": items / seconds,
        "waiting_for_data": (steps.waited - waited) / seconds,
        "workers": workers,
    }


def matmul_rate(device: torch.device) -> float:
    """TFLOP/s of a bfloat16 product of large matrices, on a CPU of a float32 one."""
    gpu = device.type == "cuda"
    side = MATMUL if gpu else MATMUL // 8
    shape, kind = (side, side), torch.bfloat16 if gpu else torch.float32
    a, b = (torch.randn(shape, device=device, dtype=kind) for _ in range(2))
    return 2 * side**3 / _seconds(lambda: a @ b, 1.0, device) / 1e12


def _seconds(step: Callable[[], Any], window: float, device: torch.device) -> float:
    """Mean time of a step within a window of seconds, after some that warm up."""
    together = WARM_UP if device.type == "cuda" else 1
    for _ in range(together):
        step()
    _wait(device)
    count, begin = 0, time.perf_counter()
    while count == 0 or time.perf_counter() - begin < window:
        for _ in range(together):
            step()
        count += together
        _wait(device)
    return (time.perf_counter() - begin) / count


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


def table(rows: list[dict[str, Any]]) -> str:
    """The rows as a table, for people."""
    lines = ["".join(f"{title:>15s}" for _, title in COLUMNS)]
    for row in rows:
        if "error" in row:
            lines.append(f"{row['training']:>15s}  {row['error']}")
            continue
        lines.append("".join(_cell(name, row.get(name)) for name, _ in COLUMNS))
    return "\n".join(lines)


def _cell(name: str, value: Any) -> str:
    if value is None:
        return f"{'-':>15s}"
    if name in ("waiting_for_data", "share_of_matmul"):
        return f"{value:15.1%}"
    return f"{value:15.2f}" if isinstance(value, float) else f"{value!s:>15s}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trainings", nargs="+", choices=TRAININGS, default=list(TRAININGS))
    parser.add_argument("--seconds", type=float, default=4.0, help="of each measurement")
    parser.add_argument("--workers", type=int, help="default: as a training chooses them")
    parser.add_argument("--no-loading", dest="loading", action="store_false")
    parser.add_argument("--decode", action="store_true", help="pictures in each epoch")
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--recompute", action="store_true")
    parser.add_argument("--output", type=Path, default=Path("results/bench.json"))
    options = parser.parse_args()
    device = choose_device()
    gpu = device.type == "cuda"
    experiments = load_configs(Path("configs")).experiments
    about: dict[str, Any] = {
        "device": torch.cuda.get_device_name() if gpu else f"CPU, {given_threads()} threads",
        "torch": torch.__version__,
        "matmul_tflops": matmul_rate(device),
        "compile": options.compile,
        "recompute": options.recompute,
        "decode": options.decode,
    }
    print(json.dumps(about), flush=True)
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        objects = make_scenes(folder, IMAGES)
        for name in options.trainings:
            large, small, what = TRAININGS[name]
            if gpu:
                torch.cuda.empty_cache()
                torch.cuda.reset_peak_memory_stats()
            begin = time.perf_counter()
            experiment = experiments[large if gpu else small]
            try:
                row = measure(
                    name, experiment, what, objects, folder, options, about["matmul_tflops"]
                )
            except RuntimeError as error:  # one that fails leaves the others their figures
                row = {"training": name, "error": str(error).splitlines()[0]}
            row["experiment"] = large if gpu else small
            rows.append({**row, "seconds": round(time.perf_counter() - begin, 1)})
            print(table(rows[-1:]), flush=True)
            options.output.parent.mkdir(parents=True, exist_ok=True)
            options.output.write_text(json.dumps({**about, "trainings": rows}, indent=1) + "\n")
    print(table(rows))


if __name__ == "__main__":
    main()
