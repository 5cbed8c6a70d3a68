"""DETRIS against the official code: evaluation, one training forward and backward, checkpoint."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from stages.backbones.clip import load_clip
from stages.config.encoders import ClipSource, DinoSource
from stages.config.segmentors import DetrisOptions
from stages.models.detris import DetrisSegmentor
from stages.storage.matching import load_exactly
from stages.storage.weights import read_published
from tests.parity import query_models, recipes
from tests.parity.golden import CASES, Golden, assert_close, load, manifest

# float32 against float64 moves the logits, of deviation 7 to 12, by 2e-4.
LOGITS = 1e-3
# Between two ways to compute the convolutions: 5e-4 of the logits in training, 2e-3 of a gradient's
# norm, 7e-3 of its product with noise, each relative to the norm, that at least 1e-4 of the total.
GRADIENT = 1e-2
FLOOR = 1e-4
STATISTICS = 1e-5
PRODUCT = 2e-2  # of a gradient with noise, whose deviation is the norm

TAGS = sorted(path.stem.removeprefix("manifest_") for path in CASES.glob("detris/manifest_*.json"))
LARGE = {
    "dino": DinoSource(model="vit_large_patch14_reg4_dinov2"),
    "outputs": (8, 16),
    "visual_layers": (2, 6, 10, 14, 18, 22),
    "epochs": 50,
    "milestones": (35,),
}
MIXED = {
    "visual_layers": tuple(range(1, 24)),
    "text_layers": tuple(range(1, 12)),
    "visual_channels": 384,
    "text_channels": 384,
}


def section(tag: str) -> DetrisOptions:
    """The configuration of a published model: B17, L22, Lmixed."""
    if tag.startswith("B"):
        return DetrisOptions()
    return DetrisOptions(**{**LARGE, **(MIXED if tag == "Lmixed" else {})})


def build(tag: str) -> DetrisSegmentor:
    clip = load_clip(ClipSource(model="ViT-B-16", context_length=22))
    model = DetrisSegmentor(section(tag), clip)
    query_models.without_dropout(model)
    return model


def inputs(golden: Golden) -> dict[str, Tensor]:
    """The batch of a case: expression i is of image i."""
    count, size, seed = (golden.meta[name] for name in ("batch", "size", "seed"))
    return {
        "images": recipes.image((count, 3, size, size), seed),
        "image_index": torch.arange(count),
        "tokens": recipes.tokens(count, 10, golden.meta["word_len"], seed),
        "masks": recipes.block_mask((count, size, size), seed).float(),
    }


@pytest.mark.parametrize("path", query_models.chosen("detris", "[BL]*_s*_*"))
def test_evaluation_and_training_are_the_official_ones(path: Path, device: torch.device) -> None:
    golden = load(path)
    model = build(golden.meta["case"])
    query_models.fill(model, golden.meta["seed"])
    model.to(device)
    batch = recipes.on(device, inputs(golden))
    _check_evaluation(model.eval(), batch, golden)
    if "train_loss" in golden.arrays:
        _check_training(model.train(), batch, golden)


@torch.no_grad()
def _check_evaluation(model: DetrisSegmentor, batch: dict[str, Tensor], golden: Golden) -> None:
    with query_models.recorded(model) as seen:
        logits = model.logits(batch)
    assert_close("eval_logits", logits[:, None], golden, LOGITS)
    assert_close("state", seen["state"], golden, LOGITS)
    assert_close("word", seen["word"][:, :, ::8], golden, LOGITS)
    for name, key in (("vis0", "v3"), ("vis1", "v4"), ("vis2", "v5"), ("neck", "neck")):
        assert_close(f"{name}_c16_s4", seen[key][:, ::16, ::4, ::4], golden, LOGITS)
    assert_close("decoder_c16_s4", seen["decoder"][:, ::16, ::4, ::4], golden, LOGITS)


def _check_training(model: DetrisSegmentor, batch: dict[str, Tensor], golden: Golden) -> None:
    kept: list[Tensor] = []
    hook = model.proj.register_forward_hook(lambda *call: kept.append(call[2].detach()))
    loss = model(batch)["loss"]
    hook.remove()
    loss.backward()
    assert_close("train_pred", kept[0][:, None, ::2, ::2], golden, LOGITS)
    assert_close("train_loss", loss.item(), golden, LOGITS)
    target = F.interpolate(batch["masks"][:, None], kept[0].shape[1:], mode="nearest")
    assert_close("train_target", target, golden, 0)
    buffers = dict(model.named_buffers())
    for key in golden.arrays:
        if key.startswith("bn_after:"):
            assert_close(key, buffers[key.removeprefix("bn_after:")], golden, STATISTICS)
    _check_gradients(model, golden)


def _check_gradients(model: DetrisSegmentor, golden: Golden) -> None:
    names = golden.meta["grad_names"]
    gradients = {n: p.grad for n, p in model.named_parameters() if p.requires_grad}
    assert list(gradients) == names
    theirs = golden.arrays["grad_norm"]
    floor = FLOOR * float(np.sqrt((theirs**2).sum()))
    for name, norm, product in zip(names, theirs, golden.arrays["grad_dot"], strict=True):
        gradient = gradients[name]
        assert gradient is not None, name
        allowed = max(norm, floor)
        assert abs(float(gradient.double().norm()) - norm) <= GRADIENT * allowed, name
        ours = recipes.gradient_probe(name, gradient, golden.meta["seed"])
        assert abs(ours - product) <= PRODUCT * allowed, name


@pytest.mark.parametrize(
    "tag",
    [pytest.param(t, marks=() if t == "B17" else pytest.mark.slow) for t in TAGS],
)
def test_an_official_checkpoint_loads_by_key_and_trains_its_adapters(
    tag: str, tmp_path: Path
) -> None:
    values: Any = manifest("detris", tag)
    model = build(tag)
    state = model.state_dict()
    kinds = [[k, list(v.shape), str(v.dtype).removeprefix("torch.")] for k, v in state.items()]
    assert kinds == values["keys"]
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    assert [n for n, p in model.named_parameters() if p.requires_grad] == values["trainable_names"]
    groups = model.parameter_groups(section(tag))
    for ours, theirs in zip(groups, values["optimizer_groups"], strict=True):
        assert [names[id(parameter)] for parameter in ours["params"]] == theirs["names"]
        assert ours["lr"] == theirs["initial_lr"]
    path = tmp_path / "best_model.pth"
    torch.save({"epoch": 1, "state_dict": {f"module.{k}": v for k, v in state.items()}}, path)
    load_exactly(model, read_published(path), path)
