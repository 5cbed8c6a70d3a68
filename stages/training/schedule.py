"""The learning rate of each step."""

import math
from collections.abc import Sequence

from stages.config.section import Training


def learning_rates(
    config: Training, base_rates: Sequence[float], step: int, total: int
) -> list[float]:
    """The rate of every group at a step (from 0) of `total`."""
    factor = schedule(config, step, total)
    if config.one_rate_first_epoch and step * config.epochs < total:
        return [config.learning_rate * factor] * len(base_rates)
    return [rate * factor for rate in base_rates]


def schedule(config: Training, step: int, total: int) -> float:
    """The factor on every learning rate at a step (from 0) of `total`."""
    if step < config.warmup_steps:
        return (step + 1) / config.warmup_steps
    done = step / total
    if config.schedule == "poly":
        return float((1 - done) ** config.power)
    if config.schedule == "poly_per_epoch":
        return float((1 - step * config.epochs // total / total) ** config.power)
    if config.schedule == "cosine":
        return 0.5 * (1 + math.cos(math.pi * done))
    if config.schedule == "multistep":
        epoch = step * config.epochs // total  # epochs that are finished
        return config.gamma ** sum(milestone <= epoch for milestone in config.milestones)
    return 1.0
