"""One test of all segmentors: a new one is a row here.

What makes a backbone of a few thousand weights is tests/small_clip.py.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from stages.backbones.clip import Clip
from stages.config.encoders import ClipSource, DinoSource
from stages.config.segmentors import (
    CrisOptions,
    DetrisOptions,
    EtrisOptions,
    RelaOptions,
    TrisOptions,
)
from stages.models.cris import CrisSegmentor
from stages.models.detris import DetrisSegmentor
from stages.models.etris import EtrisSegmentor
from stages.models.rela import ClipImages, ClipWords, RelaSegmentor
from stages.models.tris import TrisSegmentor
from stages.runtime.errors import InputError
from tests.small_clip import DESCRIPTION, small_clip, small_tokens

SIZE = 64
SMALL: dict[str, Any] = {
    "image_size": SIZE,
    "channels": 32,
    "heads": 4,
    "layers": 1,
    "hidden": 32,
    "dropout": 0.0,
}
TINY_DINO = DinoSource(model="tiny")


def transformer_clip() -> Clip:
    """The small CLIP with a vision transformer."""
    torch.manual_seed(0)
    vision = {"image_size": 32, "layers": 3, "width": 16, "head_width": 8, "patch_size": 16}
    return Clip({**DESCRIPTION, "vision_cfg": vision})


@dataclass(frozen=True)
class Row:
    """A segmentor, how to build it, and which trainable parameters can get no gradient."""

    name: str
    build: Callable[[], Any]
    config: Any
    no_gradient: tuple[str, ...] = ()
    rounding: float = 1e-4


def _row(name: str, section: Any, model: Any, clip: Callable[[], Clip], *absent: str) -> Row:
    return Row(name, lambda: model(section, clip()), section, absent)


CRIS = CrisOptions(**SMALL)
ETRIS = EtrisOptions(**SMALL, bridge_channels=16)
DETRIS = DetrisOptions(
    **SMALL,
    dino=TINY_DINO,
    outputs=(2, 4),
    visual_layers=(1, 3, 5),
    visual_channels=32,
    text_layers=(1,),
    text_channels=16,
)
RELA = RelaOptions(
    image_size=SIZE,
    backbone="clip",
    text="clip",
    clip=ClipSource(model="small.json"),
    channels=32,
    heads=4,
    pixel_layers=1,
    pixel_hidden=32,
    regions=4,
    layers=3,
    hidden=32,
)


def clip_rela(config: RelaOptions, clip: Clip) -> RelaSegmentor:
    return RelaSegmentor(config, ClipImages(clip), ClipWords(clip))


ROWS = [
    _row("tris", TrisOptions(image_size=SIZE), TrisSegmentor, lambda: small_clip(8)),
    # The scale of CLIP's own loss is among CRIS's trainable parameters, and in no loss of CRIS.
    _row("cris", CRIS, CrisSegmentor, small_clip, "backbone.logit_scale"),
    _row("cris_fine", CRIS, CrisSegmentor, lambda: small_clip(8), "backbone.logit_scale"),
    _row("etris", ETRIS, EtrisSegmentor, small_clip),
    _row("etris_fine", ETRIS, EtrisSegmentor, lambda: small_clip(8)),
    _row("etris_transformer", ETRIS, EtrisSegmentor, transformer_clip),
    _row("detris", DETRIS, DetrisSegmentor, small_clip),
    _row(
        "detris_trained",
        DETRIS.model_copy(update={"train_dino": True}),
        DetrisSegmentor,
        small_clip,
    ),
    # Those with Swin and BERT are in tests/test_rela.py. Here the coarsest map has 2 x 2 cells that
    # read all but the same, which its instance norm magnifies with its rounding: 1.7e-3 was seen.
    replace(_row("rela", RELA, clip_rela, small_clip), rounding=5e-3),
    _row("rela_fine", RELA, clip_rela, lambda: small_clip(8)),
]
EACH = pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)


def batch_of(images: int = 2, expressions: int = 3) -> dict[str, Tensor]:
    torch.manual_seed(1)
    return {
        "images": torch.randn(images, 3, SIZE, SIZE),
        "image_index": torch.arange(expressions) % images,
        "tokens": small_tokens(expressions),
        "masks": (torch.rand(expressions, SIZE, SIZE) > 0.5).float(),
    }


@EACH
@torch.no_grad()
def test_prediction_has_the_size_of_the_image(row: Row) -> None:
    maps = row.build().eval().predict(batch_of())
    assert maps.shape == (3, SIZE, SIZE)
    assert maps.isfinite().all()


@EACH
def test_options_say_how_the_model_sees_images(row: Row) -> None:
    assert row.config.resize_mode == row.build().resize_mode


@EACH
def test_every_trainable_parameter_gets_a_gradient_of_a_finite_loss(row: Row) -> None:
    model: nn.Module = row.build().train().to(memory_format=torch.channels_last)
    losses = model(batch_of())
    losses["loss"].backward()
    assert all(loss.isfinite() for loss in losses.values())
    without = [n for n, p in model.named_parameters() if p.requires_grad and p.grad is None]
    assert without == list(row.no_gradient)
    # A fused optimizer takes for granted that both lie in memory alike.
    learning = [(p, p.grad) for p in model.parameters() if p.grad is not None]
    assert all(strides(p) == strides(gradient) for p, gradient in learning)
    frozen = [n for n, p in model.named_parameters() if not p.requires_grad and p.grad is not None]
    assert not frozen


def strides(tensor: Tensor) -> list[int]:
    """Of the axes that have more than one entry."""
    sizes = zip(tensor.shape, tensor.stride(), strict=True)
    return [stride for size, stride in sizes if size > 1]


@EACH
@torch.no_grad()
def test_a_batch_of_two_is_two_batches_of_one(row: Row) -> None:
    model, both = row.build().eval(), batch_of(images=2, expressions=2)
    together = model.predict(both)
    for number in range(2):
        rows = slice(number, number + 1)
        alone = {**{n: v[rows] for n, v in both.items()}, "image_index": torch.tensor([0])}
        one = model.predict(alone)[0]
        torch.testing.assert_close(one, together[number], atol=row.rounding, rtol=0)


@EACH
@torch.no_grad()
def test_expressions_of_one_image_do_not_change_each_other(row: Row) -> None:
    model, shared = row.build().eval(), batch_of(images=1, expressions=2)
    apart = {
        **shared,
        "images": shared["images"].repeat(2, 1, 1, 1),
        "image_index": torch.tensor([0, 1]),
    }
    together, alone = model.predict(shared), model.predict(apart)
    torch.testing.assert_close(together, alone, atol=row.rounding, rtol=0)


@EACH
@torch.no_grad()
def test_an_expression_counts_by_its_weight(row: Row) -> None:
    model = row.build().eval()
    model.config = row.config.model_copy(update={"dice": 0.5})
    both = batch_of(images=2, expressions=2)
    alone = {**{name: rows[:1] for name, rows in both.items()}, "images": both["images"]}
    same, first = (
        model({**both, "weights": torch.tensor(weights)}) for weights in ([1.0, 1.0], [2.0, 0.0])
    )
    torch.testing.assert_close(same, model(both))
    torch.testing.assert_close(first, model(alone), atol=row.rounding, rtol=row.rounding)
    assert abs(first["loss"] - same["loss"]) > 10 * row.rounding


@EACH
def test_each_trainable_parameter_is_in_one_group(row: Row) -> None:
    model = row.build()
    groups = model.parameter_groups(row.config)
    grouped = [id(parameter) for group in groups for parameter in group["params"]]
    trainable = [id(p) for p in model.parameters() if p.requires_grad]
    assert sorted(grouped) == sorted(trainable)


@EACH
def test_a_batch_of_one_expression_can_be_trained_on(row: Row) -> None:
    loss = row.build().train()(batch_of(images=1, expressions=1))["loss"]
    assert loss.isfinite()


@EACH
def test_too_long_expressions_are_refused(row: Row) -> None:
    batch = {**batch_of(), "tokens": small_tokens(3, length=90)}
    with pytest.raises(InputError, match="90 an expression; needed at most 12"):
        row.build().eval().predict(batch)


@pytest.mark.parametrize(
    ("section", "model", "clip", "size", "message"),
    [
        (CRIS, CrisSegmentor, small_clip, 80, "image_size: 80; needed a multiple of 32"),
        (ETRIS, EtrisSegmentor, small_clip, 40, "image_size: 40; needed a multiple of 32"),
        (ETRIS, EtrisSegmentor, transformer_clip, 40, "image_size: 40; needed a multiple of 16"),
        (DETRIS, DetrisSegmentor, small_clip, 60, "image_size: 60; needed a multiple of 8"),
    ],
)
def test_images_that_are_no_whole_number_of_cells_are_refused(
    section: Any, model: Any, clip: Callable[[], Clip], size: int, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        model(section.model_copy(update={"image_size": size}), clip())


def test_cris_refuses_a_vision_transformer() -> None:
    with pytest.raises(InputError, match="needed a residual CLIP"):
        CrisSegmentor(CRIS, transformer_clip())


def test_detris_refuses_adapters_of_blocks_that_are_not_there() -> None:
    config = DETRIS.model_copy(update={"visual_layers": (1, 9)})
    with pytest.raises(InputError, match="visual_layers: 9; needed numbers of blocks, 0 to 5"):
        DetrisSegmentor(config, small_clip())
