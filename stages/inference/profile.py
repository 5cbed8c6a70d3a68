"""What a prediction costs: parameters, FLOPs, latency and memory for one image and one expression.

As CRIS, ETRIS and DETRIS measure it (tools/latency.py): a random image of the size that the model
sees, an expression of as many tokens as it reads, without reading files or resizing the map. Here
the latency is a median, and is measured on a CPU too.

FLOPs are those of matrix products, convolutions and attention, as torch.utils.flop_counter counts
them: a multiplication and an addition are two.
"""

import resource
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from stages.backbones.clip import frozen
from stages.runtime.device import inferring

MIB = 1 << 20


@dataclass(frozen=True)
class Measured:
    """The cost of one prediction."""

    device: str
    image_size: int  # pixels a side
    tokens: int
    parameters: int
    trainable: int  # those that a training changes
    flops: int
    latency_ms: float  # median
    latency_ms_low: float  # a tenth of the predictions took less
    latency_ms_high: float  # a tenth took more
    per_second: float
    memory_mib: float  # GPU: the most that PyTorch held; CPU: the most that the process held
    activations_mib: float | None  # GPU: without what was there before a prediction
    warm_up: int
    repeats: int

    def rows(self) -> Iterator[tuple[str, str]]:
        """Names and values, for a table."""
        yield "parameters", f"{self.parameters / 1e6:.2f} M"
        yield "trainable", f"{self.trainable / 1e6:.2f} M"
        yield "FLOPs", f"{self.flops / 1e9:.2f} G"
        yield "latency, median", f"{self.latency_ms:.2f} ms"
        yield "10 % to 90 %", f"{self.latency_ms_low:.2f} to {self.latency_ms_high:.2f} ms"
        yield "expressions a second", f"{self.per_second:.1f}"
        if self.activations_mib is not None:
            yield "GPU memory", f"{self.memory_mib:.0f} MiB"
            yield "without weights", f"{self.activations_mib:.0f} MiB"
        else:
            yield "memory of the process", f"{self.memory_mib:.0f} MiB"
        yield "device", self.device


def measure(
    model: nn.Module, config: Any, device: torch.device, warm_up: int, repeats: int
) -> Measured:
    """The cost of `predict` for one image and one expression; the model is frozen by it."""
    parameters = sum(p.numel() for p in model.parameters())
    trainable = sum(p.numel() for p in model.parameters() if p.requires_grad)
    network: Any = frozen(model).to(device)
    batch = _batch(config, device)

    def predict() -> None:
        with inferring(device, "float32"):  # as `risflow predict` does
            network.predict(batch)

    flops = _count_flops(network, batch)
    for _ in range(warm_up):
        predict()
    before = _start_memory(device)
    times = sorted(_seconds(predict, device) for _ in range(repeats))
    memory, activations = _memory(device, before)
    median = statistics.median(times)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else None
    return Measured(
        device=name or f"CPU, {torch.get_num_threads()} threads",
        image_size=config.image_size,
        tokens=config.num_tokens,
        parameters=parameters,
        trainable=trainable,
        flops=flops,
        latency_ms=1000 * median,
        latency_ms_low=1000 * times[len(times) // 10],
        latency_ms_high=1000 * times[-1 - len(times) // 10],
        per_second=1 / median,
        memory_mib=memory,
        activations_mib=activations,
        warm_up=warm_up,
        repeats=repeats,
    )


def _count_flops(network: Any, batch: dict[str, Tensor]) -> int:
    """Without PyTorch's joined operators of whole transformer layers, which are not counted."""
    enabled = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            network.predict(batch)
    finally:
        torch.backends.mha.set_fastpath_enabled(enabled)
    return int(counter.get_total_flops())


def _batch(config: Any, device: torch.device) -> dict[str, Tensor]:
    """One image (1, 3, S, S) and one expression that fills all tokens (1, L)."""
    size = config.image_size
    image = torch.rand((1, 3, size, size), generator=torch.Generator().manual_seed(0))
    return {
        "images": image.to(device),
        "tokens": torch.arange(1, config.num_tokens + 1, device=device)[None],
        "image_index": torch.zeros(1, dtype=torch.int64, device=device),
    }


def _seconds(predict: Callable[[], None], device: torch.device) -> float:
    started = time.perf_counter()
    predict()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - started


def _start_memory(device: torch.device) -> int:
    """Bytes that PyTorch holds on a GPU before the measured predictions."""
    if device.type != "cuda":
        return 0
    torch.cuda.synchronize(device)
    torch.cuda.reset_peak_memory_stats(device)
    return torch.cuda.memory_allocated(device)


def _memory(device: torch.device, before: int) -> tuple[float, float | None]:
    """MiB at most, of all and, on a GPU, of what was not there before."""
    if device.type != "cuda":
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, None
    peak = torch.cuda.max_memory_allocated(device)
    return peak / MIB, (peak - before) / MIB
