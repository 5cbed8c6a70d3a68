"""A small model of each training, and a batch for it, on a device."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from stages.backbones.bert import Bert
from stages.backbones.swin import SIZES, Swin
from stages.config.encoders import ClipSource
from stages.config.section import Training
from stages.config.segmentors import RelaOptions
from stages.models.rela import RelaSegmentor
from tests.small_clip import VOCABULARY
from tests.training_case import SIZE, STEPS, Scenes, build

NAMES = (
    "stage1",
    "irnet",
    "tris",
    "cris_fine",
    "etris_fine",
    "etris_transformer",
    "detris",
    "rela_fine",
    "swin",
)
SWIN = RelaOptions(
    image_size=SIZE,
    backbone="swin_mini",
    text="bert_mini",
    clip=ClipSource(model="small.json"),
    text_layers=None,
    channels=32,
    heads=4,
    pixel_layers=2,
    pixel_hidden=64,
    regions=4,
    layers=3,
    hidden=64,
)


@dataclass(frozen=True)
class Case:
    """What one step of a training needs."""

    model: nn.Module
    config: Training
    batch: dict[str, Tensor]


class FloatScenes(Scenes):
    """The same scenes in float32."""

    def collate(self, items: list[dict[str, Tensor]]) -> dict[str, Tensor]:
        batch = super().collate(items)
        return {k: v.float() if v.is_floating_point() else v for k, v in batch.items()}


def small_model(name: str) -> tuple[nn.Module, Training]:
    """A small model in float32 without dropout, and the options of its training."""
    if name != "swin":
        model, config = build(name)
        return model.float(), config
    torch.manual_seed(0)
    text = Bert("mini", words=VOCABULARY)
    model = RelaSegmentor(SWIN, Swin(SIZES["swin_mini"], text.width, drop_path=0.0), text)
    for part in model.modules():
        if isinstance(part, nn.Dropout):
            part.p = 0.0
    return model, SWIN.model_copy(update=STEPS)


def case(name: str, device: torch.device, items: int = 8) -> Case:
    """A model in float32 and training mode, without dropout."""
    model, config = small_model(name)
    scenes = FloatScenes()
    batch = scenes.collate([scenes[0, number] for number in range(items)])
    moved = {key: value.to(device) for key, value in batch.items()}
    return Case(model.to(device).train(), config, moved)
