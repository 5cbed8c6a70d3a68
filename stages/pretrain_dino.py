"""Train the mini DINOv2 of RefShapes from nothing, to see what the small CLIP sees.

On generated scenes, never those of the data set, its patches learn to predict the small CLIP's
last feature map, which has a cell for each patch (a distillation; no text, mask or place is used).
DINOv2's own training needs more images and steps than a small network is worth.

Writes the weights in half precision, under Meta's names, and a record of how they were made.
"""

import logging
import shlex
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from stages.backbones.clip import Clip, frozen, load_clip
from stages.backbones.dino import REGISTERS, Dino, load_dino
from stages.config.encoders import ClipSource, DinoSource
from stages.config.section import Execution, Training
from stages.config.steps import PretrainDino
from stages.data.images import normalize
from stages.data.shapes.pairs import draw_scene
from stages.data.shapes.pretraining import STREAM
from stages.runtime.command_line import main
from stages.storage.files import write_json
from stages.storage.weights import load_weights, save_weights
from stages.training.checkpoint import fingerprint
from stages.training.engine import fit

IMAGE_SIZE = 96
DINO_STREAM = STREAM + 2

log = logging.getLogger(__name__)


class Scenes:
    """Images of scenes of their own."""

    groups: NDArray[np.int64] | None = None

    def __init__(self, config: PretrainDino) -> None:
        self.images = [
            torch.from_numpy(draw_scene((config.seed, DINO_STREAM, number), IMAGE_SIZE).image)
            for number in range(config.scenes)
        ]

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, key: tuple[int, int]) -> Tensor:
        return self.images[key[1]]

    def collate(self, items: list[Tensor]) -> dict[str, Tensor]:
        """images (B, 3, S, S) as bytes."""
        return {"images": torch.stack(items).permute(0, 3, 1, 2)}

    def prepare(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        return {"images": normalize(batch["images"])}


class Distillation(nn.Module):
    """The patches of a DINOv2 predict the features of the cells of a CLIP."""

    def __init__(self, dino: Dino, clip: Clip) -> None:
        super().__init__()
        self.dino, self.clip = dino, frozen(clip)
        dino.mask_token.requires_grad_(False)
        self.head = nn.Linear(dino.channels, clip.channels[3])

    def forward(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """1 - cosine of both features of each cell, of images (B, 3, S, S)."""
        tokens = self.dino.embed(batch["images"])
        for block in self.dino.blocks:
            tokens = block(tokens)
        predicted = self.head(self.dino.norm(tokens)[:, 1 + REGISTERS :])  # (B, N, C)
        with torch.no_grad():
            features = self.clip.stages(batch["images"])[-1]
            features = features - features.mean(dim=(0, 2, 3), keepdim=True)
            wanted = features.flatten(2).transpose(1, 2)
        return {"loss": (1 - F.cosine_similarity(predicted, wanted, dim=2)).mean()}

    def train(self, mode: bool = True) -> "Distillation":
        super().train(mode)
        self.clip.eval()
        return self

    def kept(self) -> nn.Module:
        """The DINOv2."""
        return self.dino

    def parameter_groups(self, config: Training) -> list[dict[str, Any]]:
        """All that learns."""
        learning = [p for p in self.parameters() if p.requires_grad]
        return [{"params": learning, "lr": config.learning_rate}]


def run(
    weights: Path,
    record: Path,
    work: Path,
    clip: ClipSource,
    config: PretrainDino,
    execution: Execution | None = None,
) -> None:
    """Train, and write `weights` (.safetensors) and `record` (.json).

    `work` is the folder of the resume state and of the curves.
    """
    started = time.process_time()
    torch.manual_seed(config.seed)
    training = Distillation(load_dino(DinoSource(model="mini")), load_clip(clip))
    trained = work / "model.safetensors"
    fit(
        training,
        Scenes(config),
        config,
        execution=execution or Execution(),
        output=trained,
        fingerprint=fingerprint(config, clip.files),
        about={"what": "mini DINOv2 in training"},
    )
    state = {name: tensor.half() for name, tensor in load_weights(trained)[0].items()}
    save_weights(weights, state, {"what": "mini DINOv2 of RefShapes"})
    write_json(
        record,
        {
            "command": shlex.join(["python", "-m", "stages.pretrain_dino", *sys.argv[1:]]),
            "config": config.model_dump(mode="json"),
            "parameters": sum(tensor.numel() for tensor in state.values()),
            "cpu_seconds": round(time.process_time() - started),
        },
    )


if __name__ == "__main__":
    main(run)
