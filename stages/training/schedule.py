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


def describe_continuation(config: Training, first_epoch: int, steps_per_epoch: int) -> str:
    """In words, what the rates become where a training of `first_epoch` epochs is continued."""
    step, total = first_epoch * steps_per_epoch, config.epochs * steps_per_epoch
    shorter = config.model_copy(update={"epochs": first_epoch})
    now, before = schedule(config, step, total), schedule(shorter, step - 1, step)
    return (
        f"learning rate follows the {config.schedule} schedule of {config.epochs} epochs from epoch"
        f" {first_epoch} on: {now:.3g} of the full rate, where a training of {first_epoch} epochs"
        f" ended at {before:.3g}; the optimizer starts anew"
    )
