"""Batch norm over the batch of all processes, as in the published trainings."""

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from stages.runtime.distributed import differentiable_total, peers


def synchronize_norms(module: nn.Module, device: torch.device) -> None:
    """Make each batch norm work over the batches of all peers; a process alone has its own kind."""
    mixin = _OnGpu if device.type == "cuda" else _OnCpu
    for norm in _norms(module):
        norm.__class__ = _kind(mixin, type(norm))  # its weights and its place stay what they are


def copy_norms(module: nn.Module) -> None:
    """Give all processes the running statistics of the first one."""
    for norm in _norms(module):
        for statistic in (norm.running_mean, norm.running_var):
            assert statistic is not None
            dist.broadcast(statistic, 0)


def _norms(module: nn.Module) -> list[_BatchNorm]:
    return [layer for layer in module.modules() if isinstance(layer, _BatchNorm)]


def _kind(mixin: type[_BatchNorm], norm: type[_BatchNorm]) -> type[_BatchNorm]:
    return type(f"Synchronized{norm.__name__}", (mixin, norm), {})


class _OnGpu(nn.SyncBatchNorm):
    """Before a kind of batch norm among the base classes: torch's synchronized one."""

    def forward(self, features: Tensor) -> Tensor:
        """(N, C, ...) to the same."""
        self.process_group = peers()
        if not self.training or self.process_group is None:
            return super(nn.SyncBatchNorm, self).forward(features)  # of the kind
        return super().forward(features)


class _OnCpu(_BatchNorm):
    """The same for CPUs, which torch's does not support."""

    def forward(self, features: Tensor) -> Tensor:
        """(N, C, ...) to the same."""
        if not self.training or peers() is None:
            return super().forward(features)
        others = [axis for axis in range(features.dim()) if axis != 1]
        shape = [-1 if axis == 1 else 1 for axis in range(features.dim())]
        ones = torch.full((self.num_features,), features.numel() / self.num_features)
        sums = torch.stack([features.sum(others), features.square().sum(others), ones])
        summed, squared, count = differentiable_total(sums)
        mean = summed / count
        variance = squared / count - mean.square()
        self._remember(mean.detach(), variance.detach(), float(count[0].detach()))
        scaled = (features - mean.view(shape)) / (variance + self.eps).sqrt().view(shape)
        return scaled * self.weight.view(shape) + self.bias.view(shape)

    def _remember(self, mean: Tensor, variance: Tensor, count: float) -> None:
        assert self.running_mean is not None and self.running_var is not None
        assert self.num_batches_tracked is not None and self.momentum is not None
        unbiased = variance * (count / max(1.0, count - 1))
        self.running_mean.lerp_(mean, self.momentum)
        self.running_var.lerp_(unbiased, self.momentum)
        self.num_batches_tracked += 1
