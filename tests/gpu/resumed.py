"""Trains a small model unbroken, and again with an interruption: python -m tests.gpu.resumed.

Prints for each model, as JSON, the largest difference of a weight between the two.
"""

import json
import signal
import sys
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from stages.config.section import Execution
from stages.runtime.errors import Interrupted
from stages.training.engine import fit
from tests.gpu.small_models import FloatScenes, small_model

EXECUTION = Execution(workers=0, save_every=100, deterministic=True)


class Interrupting(FloatScenes):
    """Sends SIGTERM while the batch of one step is made."""

    def __init__(self, step: int) -> None:
        super().__init__()
        self.step, self.made = step, 0

    def collate(self, items: list[dict[str, Tensor]]) -> dict[str, Tensor]:
        self.made += 1
        if self.made == self.step:
            signal.raise_signal(signal.SIGTERM)
        return super().collate(items)


def main(folder: str, *names: str) -> None:
    worst = {}
    for name in names:
        unbroken, broken = (Path(folder) / name / kind for kind in ("unbroken", "broken"))
        _train(name, unbroken, FloatScenes())
        try:
            _train(name, broken, Interrupting(4))
        except Interrupted as ended:
            print(ended, file=sys.stderr)
        else:
            sys.exit(f"{name}: not interrupted")
        _train(name, broken, FloatScenes())
        ours, theirs = (load_file(f / "model.safetensors") for f in (broken, unbroken))
        worst[name] = max(_difference(value, theirs[key]) for key, value in ours.items())
    print(json.dumps(worst))


def _train(name: str, folder: Path, data: Any) -> None:
    model, config = small_model(name)
    config = config.model_copy(update={"epochs": 3, "optimizer": "adamw"})
    output = folder / "model.safetensors"
    fit(model.float(), data, config, execution=EXECUTION, output=output, fingerprint="", about={})


def _difference(first: Tensor, second: Tensor) -> float:
    return 0.0 if torch.equal(first, second) else float((first - second).abs().max())


if __name__ == "__main__":
    main(*sys.argv[1:])
