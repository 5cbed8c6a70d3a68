"""What several processes exchange works over NCCL: with one process, which has all of it."""

import copy
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import torch.distributed as dist

from stages.training.norms import synchronize_norms
from stages.training.setup import distributed
from tests.gpu.small_models import case

GPU = torch.device("cuda", 0)
# Norms, losses and gradients are computed by other kernels: a few roundings of float32.
LOSS, GRADIENT = 1e-4, 1e-2


@pytest.fixture
def connected(tmp_path: Path) -> Iterator[None]:
    store = f"file://{tmp_path}/store"
    dist.init_process_group("cpu:gloo,cuda:nccl", init_method=store, rank=0, world_size=1)
    yield
    dist.destroy_process_group()


@pytest.mark.gpu
@pytest.mark.parametrize("name", ["stage1", "irnet", "cris_fine", "etris_fine", "detris"])
def test_one_process_over_nccl_has_the_losses_and_gradients_of_none(
    name: str, connected: None
) -> None:
    alone = case(name, GPU)
    model = copy.deepcopy(alone.model)
    synchronize_norms(model, GPU)
    wrapped = distributed(model, GPU, is_accumulated=False)
    loss = wrapped(alone.batch)["loss"]
    loss.backward()
    dist.destroy_process_group()
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    expected = alone.model(alone.batch)["loss"]
    expected.backward()
    assert loss.item() == pytest.approx(expected.item(), rel=LOSS)
    pairs = zip(model.parameters(), alone.model.parameters(), strict=True)
    gradients = [(a.grad, b.grad) for a, b in pairs if b.grad is not None]
    ours, theirs = (torch.cat([g.flatten() for g in side]) for side in zip(*gradients, strict=True))
    assert float((ours - theirs).norm() / theirs.norm()) <= GRADIENT
