"""The averaged teacher of TRIS stage 2: official train_stage2.py with --model_ema.

There it is `EMA` of ema-pytorch 0.2.3 with its defaults. Every tenth step it takes the model's
weights: as they are in the first 100 steps, then as a moving average whose decay rises with the
steps, 1 - (1 + steps)^(-2/3) up to 0.9999.
"""

import copy

import torch
from torch import Tensor, nn

UPDATE_EVERY = 10  # steps
COPIED_STEPS = 100  # the first ones
POWER = 2 / 3
MOST_DECAY = 0.9999


class Teacher(nn.Module):
    """A model whose weights and measured norms follow those of another; it has no gradient."""

    steps: Tensor

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = copy.deepcopy(model).requires_grad_(False)
        self.register_buffer("steps", torch.tensor(0))

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """Follow a model of the same kind, after each of its steps."""
        done = int(self.steps)
        self.steps += 1
        if done % UPDATE_EVERY:
            return
        share = 1 - decay(done)
        theirs = model.state_dict()
        for name, own in self.model.state_dict().items():
            if own.is_floating_point():  # counts of batches are the teacher's own
                own.lerp_(theirs[name], share)


def decay(done: int) -> float:
    """What stays of the average after `done` earlier steps."""
    since = max(0, done - COPIED_STEPS)
    return min(MOST_DECAY, 1 - (1 + since) ** -POWER) if since > UPDATE_EVERY else 0.0
