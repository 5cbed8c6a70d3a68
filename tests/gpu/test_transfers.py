"""Within a step nothing is uploaded, and the processor never waits for the GPU."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from stages.config.section import Execution
from stages.training.batches import WHOLE_STEP
from stages.training.engine import _Run
from tests.gpu.small_models import NAMES, case

CPU, GPU = torch.device("cpu"), torch.device("cuda", 0)
READS = ("_local_scalar_dense", "nonzero", "masked_select")  # a value on the processor


class Transfers(TorchDispatchMode):
    """Records what moves between CPU and GPU, or makes one wait for the other."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []

    def __torch_dispatch__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        name = function.overloadpacket.__name__
        if name in READS or (name in ("_to_copy", "copy_") and _crosses(name, args, kwargs or {})):
            self.seen.append(name)
        return function(*args, **(kwargs or {}))


def _crosses(name: str, args: Any, kwargs: Any) -> bool:
    source = args[0] if name == "_to_copy" else args[1]
    target = kwargs.get("device") or args[0].device
    return source.device.type != torch.device(target).type


@contextmanager
def imagined_gpu(model: nn.Module, batch: dict[str, Tensor]) -> Iterator[dict[str, Tensor]]:
    """The model and the batch as torch's fake tensors, which have a device but no values."""
    with FakeTensorMode(allow_non_fake_inputs=True):
        for module in model.modules():
            for tensors in (module._parameters, module._buffers):
                for name, value in tensors.items():
                    if value is not None:
                        tensors[name] = _imagined(value)
        yield {name: _imagined(value) for name, value in batch.items()}


def _imagined(value: Tensor) -> Any:
    empty = torch.empty(value.shape, dtype=value.dtype, device=GPU)
    return nn.Parameter(empty, value.requires_grad) if isinstance(value, nn.Parameter) else empty


@pytest.mark.parametrize("name", NAMES)
def test_nothing_is_uploaded_for_the_losses(name: str) -> None:
    """On a GPU that is imagined: without one, and without values."""
    small = case(name, CPU)
    with imagined_gpu(small.model, small.batch) as batch, Transfers() as transfers:
        assert small.model(batch)["loss"].device == GPU
    assert transfers.seen == []


@pytest.mark.gpu
@pytest.mark.parametrize("name", NAMES)
def test_no_step_waits_for_the_gpu(name: str, tmp_path: Path) -> None:
    small = case(name, CPU)
    config = small.config.model_copy(update={"max_grad_norm": 1.0, "optimizer": "adamw"})
    run = _Run(small.model, config, GPU, tmp_path / "model.safetensors", "", 100, Execution())
    batch = {key: value.pin_memory() for key, value in small.batch.items()}
    run.advance([(batch, WHOLE_STEP)])
    torch.cuda.synchronize()
    try:
        with warnings.catch_warnings(action="ignore"):  # torch calls this mode a prototype
            torch.cuda.set_sync_debug_mode("error")
        run.advance([(batch, WHOLE_STEP)])
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert run.record()[0]["loss"] > 0
