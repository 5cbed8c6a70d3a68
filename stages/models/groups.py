"""Parameters as the optimizer takes them."""

from collections.abc import Iterable
from typing import Any

from torch import nn

from stages.config.segmentors import Training


def optimizer_group(
    parameters: Iterable[nn.Parameter], learning_rate: float, config: Training
) -> dict[str, Any]:
    """The trainable ones of some parameters with their learning rate."""
    return {
        "params": [parameter for parameter in parameters if parameter.requires_grad],
        "lr": learning_rate,
        "weight_decay": config.weight_decay,
    }
