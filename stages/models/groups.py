"""Parameter groups of the optimizer."""

from collections.abc import Callable, Iterable
from typing import Any

from torch import nn

from stages.config.section import Training


def optimizer_group(
    parameters: Iterable[nn.Parameter], learning_rate: float, config: Training
) -> dict[str, Any]:
    """A group of the trainable parameters among these."""
    return {
        "params": [parameter for parameter in parameters if parameter.requires_grad],
        "lr": learning_rate,
        "weight_decay": config.weight_decay,
    }


def is_clip_without_positions(name: str) -> bool:
    """Whether a parameter is CLIP's, but not its positions, which learn at the head's rate."""
    return name.startswith("backbone.") and "positional_embedding" not in name


def backbone_and_head(
    module: nn.Module, is_backbone: Callable[[str], bool], config: Training
) -> list[dict[str, Any]]:
    """Two groups: parameters whose names are of the backbone, and the others."""
    backbone: list[nn.Parameter] = []
    head: list[nn.Parameter] = []
    for name, parameter in module.named_parameters():
        (backbone if is_backbone(name) else head).append(parameter)
    return [
        optimizer_group(backbone, config.backbone_learning_rate, config),
        optimizer_group(head, config.learning_rate, config),
    ]
