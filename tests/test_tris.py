"""TRIS with a small CLIP: shapes, losses, gradients, and independence of what shares a batch."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from stages.backbones.clip import frozen, load_clip
from stages.backbones.clip_layers import fold_norms
from stages.config.encoders import JudgeSource
from stages.config.segmentors import TrisOptions
from stages.config.steps import Stage1
from stages.data import response_maps as response
from stages.models import losses
from stages.models.judge import encode_masked, load_judge, resize_images
from stages.models.prms import choose_maps
from stages.models.tris import Stage1Trainer, TrisSegmentor, TrisStage1
from stages.models.tris_attention import InstanceNorm
from tests.small_clip import CONTEXT, SIZE, small_clip, small_tokens, write_description

ROUNDING = 2e-5
STAGE1 = Stage1(hidden=20, image_size=64, negatives=2)
STAGE2 = TrisOptions(image_size=64)
STRIDES = pytest.mark.parametrize("output_stride", [32, 16, 8])


def batch_of(images: int = 2, expressions: int = 3, size: int = 64) -> dict[str, Tensor]:
    torch.manual_seed(0)
    return {
        "images": torch.randn(images, 3, size, size),
        "image_index": torch.arange(expressions) % images,
        "tokens": small_tokens(expressions),
        "masks": (torch.rand(expressions, size, size) > 0.5).float(),
    }


def stage1_trainer(config: Stage1 = STAGE1, output_stride: int = 8) -> Stage1Trainer:
    judge, texts = small_clip(seed=1), torch.randn(7, 24)
    return Stage1Trainer(config, TrisStage1(config, small_clip(output_stride)), judge, texts)


def stage1_batch() -> dict[str, Tensor]:
    return {
        "images": torch.randn(3, 3, 64, 64),
        "tokens": small_tokens(3),
        "expression": torch.tensor([4, 0, 2]),
        "negatives": torch.tensor([[1, 3], [5, 6], [3, 3]]),
    }


@STRIDES
def test_stage1_responds_at_its_output_stride_and_predicts_at_image_size(
    output_stride: int,
) -> None:
    model = TrisStage1(STAGE1, small_clip(output_stride)).eval()
    batch = batch_of()
    grids = model(batch["images"], batch["tokens"], batch["image_index"])
    assert grids.shape == (3, 64 // output_stride, 64 // output_stride)
    maps = model.predict(batch)
    assert maps.shape == (3, 64, 64)
    assert (maps >= 0).all()


@torch.no_grad()
def test_stage1_responds_to_an_expression_alone_as_among_others() -> None:
    model = TrisStage1(STAGE1, small_clip(8)).eval()
    batch = batch_of()
    together = model(batch["images"], batch["tokens"], batch["image_index"])
    for row, image in enumerate(batch["image_index"].tolist()):
        alone = model(batch["images"][image, None], batch["tokens"][row, None], torch.tensor([0]))
        torch.testing.assert_close(alone[0], together[row], atol=ROUNDING, rtol=0)


@torch.no_grad()
def test_the_form_for_one_expression_is_that_of_many_with_one() -> None:
    model = TrisStage1(STAGE1, small_clip(8)).eval()
    batch = batch_of(images=1, expressions=1)
    features = model.backbone.stages(batch["images"])[-1]
    _, sentences = model.backbone.encode_text(batch["tokens"])
    general, special = model.pairs(features, sentences)[0], model.maps(features, sentences)
    # The general form's instance norm sees a constant map and enlarges its rounding 300 times.
    torch.testing.assert_close(special, general, atol=1e-3, rtol=0)


@STRIDES
def test_stage1_losses_are_finite_and_reach_every_trained_weight(output_stride: int) -> None:
    trainer = stage1_trainer(output_stride=output_stride).train()
    named = trainer(stage1_batch())
    assert set(named) == {"loss", "foreground", "classification", "negatives"}
    assert all(value.isfinite() for value in named.values())
    total = named["foreground"] + 5 * named["classification"] + 2 * named["negatives"]
    torch.testing.assert_close(named["loss"], total)
    named["loss"].backward()
    groups = trainer.parameter_groups(STAGE1)
    assert [group["lr"] for group in groups] == [5e-6, 5e-5]
    assert all(value.grad is not None for group in groups for value in group["params"])
    in_groups = {id(value) for group in groups for value in group["params"]}
    trained = {id(value) for value in trainer.parameters() if value.requires_grad}
    assert trained == in_groups


def test_the_judge_stays_as_it_is_and_is_not_part_of_the_result() -> None:
    trainer = stage1_trainer().train()
    before = {name: value.clone() for name, value in trainer.judge.state_dict().items()}
    trainer(stage1_batch())["loss"].backward()
    assert not trainer.judge.training
    assert all(value.grad is None for value in trainer.judge.parameters())
    assert all(torch.equal(value, before[n]) for n, value in trainer.judge.state_dict().items())
    assert trainer.kept() is trainer.model


@pytest.mark.parametrize("change", [{"negatives": 0}, {"weight_negatives": 0.0}], ids=str)
def test_negatives_can_be_left_out(change: dict[str, float]) -> None:
    trainer = stage1_trainer(STAGE1.model_copy(update=change))
    batch = stage1_batch()
    del batch["negatives"]
    assert set(trainer(batch)) == {"loss", "foreground", "classification"}


@STRIDES
@pytest.mark.parametrize("positions", [False, True])
def test_stage2_losses_are_finite_and_reach_every_trained_weight(
    output_stride: int, positions: bool
) -> None:
    config = STAGE2.model_copy(update={"positions": positions})
    model = TrisSegmentor(config, small_clip(output_stride)).train()
    named = model(batch_of())
    assert set(named) == {"loss", "output1", "output2", "output3", "output4"}
    assert named["loss"].isfinite()
    named["loss"].backward()
    groups = model.parameter_groups(STAGE2)
    assert all(value.grad is not None for group in groups for value in group["params"])
    in_groups = {id(value) for group in groups for value in group["params"]}
    assert in_groups == {id(value) for value in model.parameters() if value.requires_grad}


@torch.no_grad()
def test_positions_fit_images_of_an_odd_size() -> None:
    config = STAGE2.model_copy(update={"positions": True, "image_size": 63})
    batch = batch_of()
    batch["images"] = batch["images"][..., :63, :63]
    assert TrisSegmentor(config, small_clip(8)).eval().predict(batch).shape[1:] == (63, 63)


def test_positions_differ_by_row_and_column_and_are_none_as_published() -> None:
    assert not list(TrisSegmentor(STAGE2, small_clip()).positions)
    config = STAGE2.model_copy(update={"positions": True})
    for positions in TrisSegmentor(config, small_clip()).positions:
        nothing = torch.zeros_like(positions.rows + positions.columns)[None]
        cells = positions(nothing)[0].flatten(1).T  # (cells, channels)
        assert len(cells.unique(dim=0)) == len(cells)


def test_positional_embeddings_learn_with_the_head() -> None:
    model = TrisSegmentor(STAGE2, small_clip())
    _, head = model.parameter_groups(STAGE2)
    assert head["lr"] == 5e-5
    assert any(value is model.backbone.positional_embedding for value in head["params"])


@torch.no_grad()
def test_stage2_predicts_an_expression_alone_as_among_others() -> None:
    model = TrisSegmentor(STAGE2, small_clip(16)).eval()
    batch = batch_of()
    together = model.predict(batch)
    assert together.shape == (3, 64, 64)
    for row, image in enumerate(batch["image_index"].tolist()):
        alone = model.predict(
            {
                "images": batch["images"][image, None],
                "tokens": batch["tokens"][row, None],
                "image_index": torch.tensor([0]),
            }
        )
        torch.testing.assert_close(alone[0], together[row], atol=ROUNDING, rtol=0)


def test_dice_is_added_with_its_weight() -> None:
    model = TrisSegmentor(STAGE2.model_copy(update={"dice": 0.5}), small_clip())
    named = model(batch_of())
    parts = sum(named[f"output{n}"] for n in (1, 2, 3, 4)) + 0.5 * named["dice"]
    torch.testing.assert_close(named["loss"], parts)


def test_the_attention_can_be_narrower() -> None:
    model = TrisSegmentor(STAGE2.model_copy(update={"attention": 6}), small_clip())
    assert model.attention4.Wq.out_channels == 6
    assert model.predict(batch_of()).shape == (3, 64, 64)


@torch.no_grad()
def test_choosing_maps_of_many_objects_is_choosing_each_ones() -> None:
    judge = frozen(small_clip(seed=1))
    torch.manual_seed(0)
    images, grids, texts = torch.randn(2, 3, 64, 64), torch.randn(6, 4, 4), torch.randn(6, 24)
    image_index, counts = torch.tensor([0, 0, 0, 1, 1, 0]), [3, 2, 1]

    choices = choose_maps(judge, images, grids, texts, image_index, counts, batch_size=4)

    start = 0
    for choice, count in zip(choices, counts, strict=True):
        rows = slice(start, start + count)
        (alone,) = choose_maps(judge, images, grids[rows], texts[rows], image_index[rows], [count])
        torch.testing.assert_close(choice.scores, alone.scores, atol=ROUNDING, rtol=0)
        assert choice.scores.shape == (count, count)
        assert choice.index == int(choice.scores.sum(dim=1).argmax())
        start += count


@torch.no_grad()
@pytest.mark.parametrize(("asked", "side"), [(None, SIZE), (160, 160)])
def test_the_judge_sees_images_of_its_size(tmp_path: Path, asked: int | None, side: int) -> None:
    source = JudgeSource(
        model=write_description(tmp_path), context_length=CONTEXT, image_size=asked
    )
    torch.manual_seed(0)
    judge = load_judge(source)
    images = torch.randn(2, 3, 64, 64)
    seen = resize_images(judge, images)
    assert seen.shape[2:] == (side, side)
    torch.manual_seed(0)
    clip = frozen(load_clip(source))
    fold_norms(clip.residual)
    expected = clip.encode_image(seen)
    everything = encode_masked(judge, seen, torch.ones(2, 64, 64))
    assert torch.equal(everything, torch.nn.functional.normalize(expected, dim=1))


@torch.no_grad()
def test_the_judge_sees_what_the_map_keeps() -> None:
    judge = frozen(small_clip())
    images = torch.randn(2, 3, SIZE, SIZE)
    everything = encode_masked(judge, images, torch.ones(2, 64, 64))
    expected = torch.nn.functional.normalize(judge.encode_image(images), dim=1)
    torch.testing.assert_close(everything, expected, atol=ROUNDING, rtol=0)


def test_a_full_map_is_the_same_in_one_step_or_two() -> None:
    grids = torch.randn(2, 5, 5)
    maps = response.full_map(grids, 40, (33, 47))
    assert maps.shape == (2, 33, 47)
    again = response.resize(response.upsample(grids, (40, 40)).relu(), (33, 47))
    torch.testing.assert_close(maps, again)
    assert response.normalize(maps).amax(dim=(1, 2)).tolist() == pytest.approx([1, 1], abs=1e-4)
    assert not response.normalize(torch.zeros(1, 2, 2)).any()


def test_losses_by_hand() -> None:
    half, one = torch.tensor([0.5]), torch.tensor([1.0])
    assert losses.foreground_loss(half).item() == pytest.approx(0.6931, abs=1e-4)
    assert losses.foreground_loss(-one).item() == pytest.approx(9.2103, abs=1e-4)  # bounded
    assert losses.negatives_loss(half[None]).item() == pytest.approx(0.6931, abs=1e-4)
    assert losses.negatives_loss(one[None]).isfinite()
    assert losses.negatives_loss(one[None], bounded=False) == float("inf")
    unbounded = losses.negatives_loss(half[None], bounded=False)
    assert unbounded.item() == pytest.approx(0.6931, abs=1e-4)
    third = torch.tensor([[[1.0]]]).log() - torch.tensor([[[2.0]]]).log()  # a probability of 1/3
    assert losses.consistency_loss(third, 0 * third).item() == pytest.approx(1 / 36)
    assert losses.focal_penalty(half, 3, 0.01).item() == pytest.approx(-0.0842, abs=1e-4)
    sure = 100 * (2 * torch.eye(2) - 1)
    assert losses.classification_loss(sure).item() == pytest.approx(0, abs=1e-6)
    masks = torch.tensor([[[1.0, 0.0]]])
    assert losses.mask_loss(torch.zeros(1, 1, 2), masks).item() == pytest.approx(0.6931, abs=1e-4)
    two, counts = torch.cat([masks, 1 - masks]), torch.tensor([1.5, 0.5])
    sure = torch.tensor([[[0.0, 0.0]], [[-100.0, 100.0]]])  # log 2, and nothing
    assert losses.mask_loss(sure, two, counts).item() == pytest.approx(0.75 * 0.6931, abs=1e-4)
    assert losses.dice_loss(sure, two, counts).item() == pytest.approx(0.75 * (1 - 2 / 3))
    assert losses.dice_loss(200 * masks - 100, masks).item() == pytest.approx(0, abs=1e-6)
    assert losses.dice_loss(torch.zeros(1, 1, 2), masks).item() == pytest.approx(1 - 2 / 3)
    assert losses.dice_loss(torch.full((1, 1, 2), -100.0), 0 * masks).item() == pytest.approx(0)


def test_an_instance_norm_of_one_image_has_the_gradient_that_it_has_among_two() -> None:
    torch.manual_seed(0)
    norm = InstanceNorm(6)
    features, weights = torch.randn(1, 6, 8, 8), torch.randn(1, 6, 8, 8)
    gradients = []
    for count in (1, 2):
        images = features.repeat(count, 1, 1, 1).requires_grad_()
        cells = norm(images).flatten(2).transpose(1, 2).clone()  # channels last, as in attention
        (cells * weights.flatten(2).transpose(1, 2)).sum().backward()
        assert images.grad is not None
        gradients.append(images.grad[0])
    torch.testing.assert_close(*gradients)
