"""Where a step computes: the device, its number format, and its threads."""

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Literal

import torch

from stages.config.section import Precision
from stages.runtime.errors import InputError


def pick_device(wanted: Literal["auto", "cpu", "cuda"] = "auto") -> torch.device:
    """The current GPU if there is one, else the CPU; changes nothing of the process.

    Raises InputError where a GPU is asked for and there is none.
    """
    if wanted == "cuda" and not torch.cuda.is_available():
        raise InputError("device: cuda; PyTorch sees no GPU here: use cpu, or auto")
    if wanted != "cpu" and torch.cuda.is_available():
        return torch.device("cuda", torch.cuda.current_device())
    return torch.device("cpu")


def choose_device() -> torch.device:
    """The first visible GPU, else the CPU with the threads that the rule was given.

    Of several processes (torchrun) each has a GPU of its own. Only for processes that are a step:
    it sets up all of PyTorch.
    """
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
        return pick_device()
    torch.set_num_threads(given_threads())
    # Else the gradients of maps that several expressions share are added in any order.
    # (use_deterministic_algorithms says the same, but imports torch's compiler, for a second.)
    torch.set_deterministic_debug_mode("warn")
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    return pick_device()


def set_up_gpu(precision: str, deterministic: bool, has_one_shape: bool) -> None:
    """What a training may round and choose on a GPU; no effect on a CPU.

    float32 is exact; in tf32 convolutions round, as PyTorch has it by default. Beside bfloat16,
    what stays in float32 is multiplied in TF32. The fastest convolution of each shape is found by
    trying, unless each run must give the same bits. That takes seconds a shape: not where the
    number of images differs from batch to batch.
    """
    _set_rounding(precision)
    torch.backends.cudnn.benchmark = has_one_shape and not deterministic
    if deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.backends.cudnn.deterministic = True
        # Fused attention adds in any order as long as other operations may (warn_only).
        torch.backends.cuda.enable_cudnn_sdp(False)
        torch.backends.cuda.enable_flash_sdp(False)
        torch.backends.cuda.enable_mem_efficient_sdp(False)
        torch.use_deterministic_algorithms(True, warn_only=True)
        torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]


def _set_rounding(precision: str) -> None:
    in_float32 = precision in ("float32", "tf32")
    torch.set_float32_matmul_precision("highest" if in_float32 else "high")
    torch.backends.cudnn.allow_tf32 = precision != "float32"


def given_threads() -> int:
    """The threads that a step was given; Snakemake hands them over as OMP_NUM_THREADS."""
    return int(os.environ.get("OMP_NUM_THREADS", os.cpu_count() or 1))


@contextmanager
def inferring(device: torch.device, precision: Precision) -> Iterator[None]:
    """Inference in a precision, without gradients; what was set before does not matter."""
    before = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    _set_rounding(precision)
    try:
        with torch.inference_mode(), autocast(device, precision):
            yield
    finally:
        torch.set_float32_matmul_precision(before[0])
        torch.backends.cudnn.allow_tf32 = before[1]


def autocast(device: torch.device, precision: str = "auto") -> AbstractContextManager[None]:
    """bfloat16 where asked for; `auto` means on a GPU and not on a CPU."""
    wanted = precision == "bfloat16" or (precision == "auto" and device.type == "cuda")
    return torch.autocast(device.type, torch.bfloat16) if wanted else nullcontext()
