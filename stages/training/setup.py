"""What a training loop is set up with: the processes' module, the optimizer, recomputation."""

import logging
import warnings
from typing import Any, Protocol, cast

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Optimizer
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from stages.config.section import Training

log = logging.getLogger(__name__)


class Trainable(Protocol):
    """A module with losses, parameter groups and a part whose weights are kept."""

    def forward(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Named losses; `loss` is the one that is minimized."""

    def parameter_groups(self, config: Any) -> list[dict[str, Any]]:
        """Groups for a torch optimizer: `params`, `lr` and other options."""

    def kept(self) -> nn.Module:
        """The module whose weights are the result (without a frozen judge)."""


def distributed(trainable: nn.Module, device: torch.device, is_accumulated: bool) -> nn.Module:
    """The module in every process; its gradients are averaged over them."""
    with warnings.catch_warnings():
        # torch 2.14 renames broadcast_buffers, and 2.11 does not know the new name.
        warnings.simplefilter("ignore", FutureWarning)
        return DistributedDataParallel(
            trainable,
            device_ids=[device] if device.type == "cuda" else None,
            broadcast_buffers=False,  # the norms keep them equal
            # Parameters without a loss are the same in every step, so that a static graph would do;
            # but it fails where the first backward pass is one without an exchange.
            static_graph=not is_accumulated,
            find_unused_parameters=is_accumulated,
        )


def averaged(kept: nn.Module, decay: float) -> AveragedModel:
    """A copy of the kept part whose weights and buffers follow it slowly."""
    return AveragedModel(kept, multi_avg_fn=get_ema_multi_avg_fn(decay), use_buffers=True)


def learned_beside(trainable: nn.Module) -> dict[str, nn.Parameter]:
    """What learns and is no part of the result, by name."""
    kept = set(cast(Trainable, trainable).kept().parameters())
    parameters = trainable.named_parameters()
    return {name: p for name, p in parameters if p.requires_grad and p not in kept}


def recompute_inner_values(trainable: nn.Module) -> None:
    """Let the parts that can compute again in the backward pass do so."""
    parts = [module for module in trainable.modules() if hasattr(module, "recomputes")]
    for module in parts:
        cast(Any, module).recomputes = True
    if not parts:
        log.warning("recompute: this model has no part that does (Swin); the option has no effect")


def make_optimizer(trainable: nn.Module, config: Training) -> Optimizer:
    """Adam is fused: without it, a step of a small model takes 5 to 9 % longer on a CPU.

    Fused SGD fails at a weight whose first gradient comes after the first step.
    """
    groups = cast(Trainable, trainable).parameter_groups(config)
    decay = config.weight_decay
    if config.optimizer == "sgd":
        return torch.optim.SGD(groups, momentum=config.momentum, weight_decay=decay)
    kind = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[config.optimizer]
    return kind(groups, weight_decay=decay, fused=True)
