"""Trains small models for some steps, in one process or in several: see test_distributed.py.

python -m tests.training_case FOLDER EPOCHS CASE...

A case is the name of a model, or NAME-ITEMS-ACCUMULATE, as in cris-9-2: 9 items an epoch, in
batches of 8 and two parts a step. tris_taught is tris with its averaged teacher; stage1_aided and
cris_aided learn from contrast and from a masked view.
"""

import logging
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from irnet.affinity.network import RelationTraining
from stages.config.section import Execution, Training
from stages.config.steps import Affinity, MaskedView, Stage1
from stages.models.aided import AidedSegmentor
from stages.models.tris import Stage1Trainer, TaughtTris, TrisSegmentor, TrisStage1
from stages.runtime.device import choose_device
from stages.runtime.distributed import joined
from stages.training.engine import fit
from tests.small_clip import small_clip, small_tokens
from tests.test_segmentors import ROWS

SIZE = 64
TEXTS = 24  # that the judge has read
ITEMS = 17  # in batches of 8: the last one has 1, fewer than there are processes
STEPS = {
    "batch_size": 8,
    "learning_rate": 1e-5,
    "backbone_learning_rate": 1e-5,
    "optimizer": "sgd",
    "schedule": "constant",
}
STAGE1 = Stage1(epochs=1, image_size=SIZE, hidden=16)
AIDS = {  # all pixels are hidden and no words: what is drawn differs from process to process
    "contrast": 0.5,
    "masked_view": MaskedView(weight=0.5, pixels=1.0, words=0.0),
}
RELATIONS = Affinity(epochs=1, backbone="small", crop_size=SIZE, radius=4)


class Scenes:
    """Noise with a bright rectangle, its mask, and words; labels of cells for the IRNet."""

    groups = None

    def __init__(self, items: int = ITEMS) -> None:
        self.items = items

    def __len__(self) -> int:
        return self.items

    def __getitem__(self, draw: tuple[int, int]) -> dict[str, Tensor]:
        random = np.random.default_rng(draw[1])
        top, left = random.integers(0, SIZE // 2, 2)
        mask = np.zeros((SIZE, SIZE), np.float32)
        mask[top : top + 24, left : left + 28] = 1
        image = random.normal(size=(3, SIZE, SIZE)).astype(np.float32) + 2 * mask
        labels = mask[::4, ::4].astype(np.uint8)
        labels[:2] = 255
        return {
            "images": torch.from_numpy(image),
            "tokens": small_tokens(1, seed=draw[1])[0],
            "masks": torch.from_numpy(mask),
            "labels": torch.from_numpy(labels),
            "no_target": torch.tensor(float(draw[1] % 5 == 0)),
            "weights": torch.tensor(0.5 + draw[1] % 2),
            "expression": torch.tensor(draw[1]),
            "of_image": torch.tensor(draw[1] % 3),
            "of_object": torch.tensor(draw[1] % 6),
            "negatives": torch.tensor([(draw[1] + 1) % TEXTS]),
        }

    def collate(self, items: list[dict[str, Tensor]]) -> dict[str, Tensor]:
        batch = {name: torch.stack([item[name] for item in items]) for name in items[0]}
        exact = {k: v.double() if v.is_floating_point() else v for k, v in batch.items()}
        return {**exact, "image_index": torch.arange(len(items))}

    def prepare(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        return batch


def build(name: str) -> tuple[nn.Module, Training]:
    """A small model and the options of its training."""
    torch.manual_seed(0)
    aids = AIDS if name.endswith("_aided") else {}
    if name.startswith("stage1"):
        config: Any = STAGE1.model_copy(update=aids)
        texts = torch.randn(TEXTS, 24)
        model: nn.Module = Stage1Trainer(
            config, TrisStage1(config, small_clip(8)), small_clip(8, seed=1), texts
        )
    elif name == "irnet":
        config = RELATIONS
        model = RelationTraining(config)
    else:
        row = next(
            row for row in ROWS if row.name == name.removesuffix("_taught").removesuffix("_aided")
        )
        config, model = row.config.model_copy(update=aids), row.build()
        if aids:
            model = AidedSegmentor(model, config, unknown=0)
        if isinstance(model, TrisSegmentor) and name.endswith("_taught"):
            model.config = config.model_copy(update={"consistency": 1.0})
            model = TaughtTris(model)
    for part in model.modules():  # what it drops differs from process to process
        if isinstance(part, nn.Dropout):
            part.p = 0.0
        if isinstance(part, nn.MultiheadAttention):
            part.dropout = 0.0
    return model.double(), config.model_copy(update=STEPS)


def main(folder: str, epochs: str, *names: str) -> None:
    # Rounding grows from step to step, to a tenth of the loss after 20: all is computed in float64.
    torch.Tensor.float = torch.Tensor.double  # type: ignore[method-assign]
    with joined(choose_device()):
        for case in names:
            name, *numbers = case.split("-")
            items, accumulate = map(int, numbers or (ITEMS, 1))
            model, config = build(name)
            fit(
                model,
                Scenes(items),
                config.model_copy(update={"epochs": int(epochs), "accumulate": accumulate}),
                execution=Execution(save_every=4),
                output=Path(folder) / case / "model.safetensors",
                fingerprint=case,
                about={},
            )


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    main(*sys.argv[1:])
