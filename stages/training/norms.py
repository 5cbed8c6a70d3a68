"""Batch norm over the batch of all processes, as in the published trainings."""

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from stages.runtime.distributed import differentiable_total


def synchronize_norms(module: nn.Module, device: torch.device) -> nn.Module:
    """Replace each batch norm by one with the same weights that works over all processes."""
    if device.type == "cuda":
        return nn.SyncBatchNorm.convert_sync_batchnorm(module)
    for name, child in module.named_children():
        if isinstance(child, _BatchNorm):
            setattr(module, name, _SynchronizedNorm(child))
        else:
            synchronize_norms(child, device)
    return module


class _SynchronizedNorm(_BatchNorm):
    """torch's SyncBatchNorm for CPUs, which it does not support."""

    def __init__(self, norm: _BatchNorm) -> None:
        super().__init__(norm.num_features, norm.eps, norm.momentum, norm.affine)
        self.weight, self.bias = norm.weight, norm.bias
        self.running_mean, self.running_var = norm.running_mean, norm.running_var
        self.num_batches_tracked = norm.num_batches_tracked
        self.train(norm.training)

    def _check_input_dim(self, features: Tensor) -> None: ...

    def forward(self, features: Tensor) -> Tensor:
        """(N, C, ...) to the same."""
        if not self.training:
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
