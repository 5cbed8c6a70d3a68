"""GRES/ReLA against the official code: evaluation, a training step, checkpoints, optimizer.

Attention masks are hard decisions about values near zero. With ResNet-50, rounding flips none.
Swin's instance norms amplify it, so that the official code with oneDNN differs from that without by
up to 1.2 in logits (of standard deviation 3). `teacher_*` cases hold the masks of the official run:
with these given, it differs by at most 3.3e-4.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import ArrayLike

from stages.config.segmentors import RelaOptions
from stages.models.rela import RelaSegmentor, official_weights
from stages.storage.matching import load_exactly
from stages.storage.weights import read_published
from tests.parity import recipes, rela_models
from tests.parity.golden import Golden, assert_close, cases, load, manifest, numbers
from tests.parity.gradients import total

# Features: the official code with and without oneDNN differs by 9e-5 with Swin; twice that. Values
# of a ResNet, up to 16, and of BERT come out within 2e-5.
FEATURES = {"R50": 5e-5, "swin_tiny": 2e-4, "swin_base": 2e-4}
TEXT = 5e-5
# ResNet-50's logits: noise of 5e-5. Swin's with given attention masks: 3.3e-4 and 4.2e-5. Thrice.
LOGITS, MINIMAP = {"R50": 2e-4}, {"R50": 1e-5}
TAUGHT_LOGITS, TAUGHT_MINIMAP, TAUGHT_NO_TARGET = 1e-3, 1.3e-4, 1e-5
# Without given masks, where our own model with and without oneDNN (seeds 1 and 2) gives up to 0.4 %
# of pixels another class, a median difference of 0.003, no-target logits that differ by 0.009.
FREE_PIXELS, FREE_MEDIAN, FREE_NO_TARGET = 0.01, 0.01, 0.02
# One training step, relative: the official code with and without oneDNN differs by 5e-6 in the loss
# and, in a gradient's norm and projection (floor: 1e-4 of the whole norm), by 8e-5 and 7e-4 with
# ResNet-50, by 1.5e-3 and 1.2e-2 with Swin-T. It was not measured at 480 pixels and with Swin-B,
# where there are more sums to round.
LOSS, FREE_LOSS = 2e-5, 2e-2
NORM = {"R50": 2e-3, "swin_tiny": 6e-3, "swin_base": 6e-3}
PROJECTION = {"R50": 1e-2, "swin_tiny": 5e-2, "swin_base": 5e-2}
FLOOR = 1e-4


def _params(pattern: str, train: bool = False) -> list[Any]:
    """Cases, an architecture's together; `slow` unless of the ResNet-50, or Swin-T's one."""
    paths = cases("rela", pattern)
    if train:
        paths = [path for path in paths if "train_loss" in load(path).arrays]
    paths.sort(key=lambda path: path.stem.removeprefix("teacher_"))
    quick = ("R50_s0_224", "teacher_swin_tiny_s0_224")
    slow = [path.stem not in quick for path in paths]
    return [
        pytest.param(path, marks=[pytest.mark.slow] if is_slow else [], id=path.stem)
        for path, is_slow in zip(paths, slow, strict=True)
    ]


@pytest.fixture(scope="module", autouse=True)
def released() -> Iterator[None]:
    yield
    rela_models.release()


@pytest.mark.parametrize("path", _params("[Rs]*_s[0-9]*"))
@torch.no_grad()
def test_evaluation_gives_the_official_features_and_masks(path: Path, device: torch.device) -> None:
    golden = load(path)
    tag = golden.meta["case"]
    model = rela_models.filled(golden, device).eval()
    batch = rela_models.inputs(golden, device)
    head = "sem_seg_head."
    names = ("text_encoder", "backbone", head + "pixel_decoder", head + "predictor.mask_embed")

    with rela_models.Recorder(model, *names, head + "predictor") as recorder:
        scores, no_target = model.predict_generalized(batch)

    words, _ = recorder.seen["text_encoder"]
    assert_close("lang_feat_c8", words[:, :, ::8], golden, TEXT)
    _assert_features(recorder, golden, FEATURES[tag])
    output = recorder.seen[head + "predictor"]
    theirs = np.unpackbits(golden.arrays["argmax_packbits"], axis=-1, count=scores.shape[2]) > 0
    wrong = float((numbers(scores > 0) != theirs).mean())
    if tag not in LOGITS:
        assert wrong <= FREE_PIXELS
        difference = np.abs(numbers(output.masks) - golden.arrays["pred_masks"])
        assert np.median(difference) <= FREE_MEDIAN
        assert_close("nt_label", output.no_target, golden, FREE_NO_TARGET)
        return
    assert wrong <= 1e-5  # of pixels whose two logits are the same but for rounding
    assert_close("pred_masks", output.masks, golden, LOGITS[tag])
    assert_close("minimap_pred_logits", output.minimap, golden, MINIMAP[tag])
    assert_close("nt_label", output.no_target, golden, TAUGHT_NO_TARGET)
    regions = torch.einsum("tqc,tchw->tqhw", recorder.seen[names[3]], recorder.seen[names[2]][0])
    assert_close("all_masks_q10_s4", regions[:, ::10, ::4, ::4], golden, LOGITS[tag])
    probability = golden.arrays["nt_prob"]
    np.testing.assert_allclose(numbers(no_target), probability[:, 1] - probability[:, 0], atol=1e-5)


def _assert_features(recorder: rela_models.Recorder, golden: Golden, tolerance: float) -> None:
    for number, step in enumerate((8, 4, 2, 1)):
        features = recorder.seen["backbone"][number]
        assert_close(
            f"res{number + 2}_c16_s{step}", features[:, ::16, ::step, ::step], golden, tolerance
        )
    fine, maps = recorder.seen["sem_seg_head.pixel_decoder"]
    assert_close("mask_features_c16_s8", fine[:, ::16, ::8, ::8], golden, tolerance)
    for number, (one, step) in enumerate(zip(maps, (1, 2, 4), strict=True)):
        assert_close(f"ms{number}_c16_s{step}", one[:, ::16, ::step, ::step], golden, tolerance)


@pytest.mark.parametrize("path", _params("teacher_*"))
@torch.no_grad()
def test_with_the_official_attention_masks_the_decoder_is_the_official_one(
    path: Path, device: torch.device
) -> None:
    golden = load(path)
    model = rela_models.filled(golden, device).eval()

    with rela_models.Teacher(model, golden) as teacher:
        output = model.logits(rela_models.inputs(golden, device))

    assert_close("pred_masks", output.masks, golden, TAUGHT_LOGITS)
    assert_close("minimap_pred_logits", output.minimap, golden, TAUGHT_MINIMAP)
    assert_close("nt_label", output.no_target, golden, TAUGHT_NO_TARGET)
    decisions = [mask.numel() for mask in teacher.masks]
    assert sum(teacher.flipped) <= 1e-3 * sum(decisions)


@pytest.mark.long
@pytest.mark.parametrize("path", _params("[Rs]*_s[0-9]*", train=True))
def test_a_training_step_has_the_official_losses_and_gradients(
    path: Path, device: torch.device
) -> None:
    golden = load(path)
    tag = golden.meta["case"]
    model = (
        rela_models.filled(golden, device).train().requires_grad_(True)
    )  # also what does not learn
    masks = path.with_name(f"teacher_{path.name}")
    is_taught = masks.exists()

    if is_taught:
        with rela_models.Teacher(model, load(masks)):
            losses = model(rela_models.inputs(golden, device))
    else:
        losses = model(rela_models.inputs(golden, device))
    losses["loss"].backward()

    # On an H200 some attention masks of R50 round to the other side too: the loss moves by 1.6e-4.
    is_exact = is_taught or (tag == "R50" and device.type == "cpu")
    tolerance = LOSS if is_exact else FREE_LOSS
    theirs = float(golden.arrays["train_loss"])
    assert losses["loss"].item() == pytest.approx(theirs, rel=tolerance)
    terms = golden.meta["terms_mask_minimap_nt"]
    for name, term in zip(("mask", "minimap", "no_target"), terms, strict=True):
        assert losses[name].item() == pytest.approx(term, rel=tolerance)
    if is_exact:
        _assert_same_gradients(model, golden)


def _assert_same_gradients(model: RelaSegmentor, golden: Golden) -> None:
    tag, seed = golden.meta["case"], golden.meta["seed"]
    parameters = dict(model.named_parameters())
    names: list[str] = golden.meta["grad_names"]
    assert len(names) == len(parameters)
    norms, projections = golden.arrays["grad_norm"], golden.arrays["grad_dot"]
    floor = FLOOR * total(norms)
    for name, norm, projection in zip(names, norms, projections, strict=True):
        gradient = parameters[_own_name(name)].grad
        assert gradient is not None, name
        scale = max(norm, floor)
        assert abs(float(gradient.double().norm()) - norm) <= NORM[tag] * scale, name
        ours = recipes.gradient_probe(name, gradient, seed)
        assert abs(ours - projection) <= PROJECTION[tag] * scale, name


def _own_name(official: str) -> str:
    return next(iter(official_weights({official: torch.zeros(())})))


@pytest.mark.parametrize("tag", ["R50", "swin_tiny", "swin_base"])
def test_an_official_checkpoint_loads_by_key_and_has_the_official_groups(
    tag: str, tmp_path: Path
) -> None:
    official = manifest("rela", tag)
    state = {
        name: torch.ones(()).to(getattr(torch, kind)).expand(shape)
        for name, shape, kind in official["keys"]
    }
    path = tmp_path / "model_final.pth"
    old = {"text_encoder.embeddings.position_ids": torch.arange(512)[None]}
    torch.save({"model": {**state, **old}, "optimizer": {}, "iteration": 149999}, path)
    model = rela_models.build(tag)

    weights = official_weights(read_published(path))
    load_exactly(model, weights, path)

    predictor = model.sem_seg_head.predictor
    assert predictor.lang_weight.item() == 0.0  # as the official loader leaves it
    assert np.all(predictor.lang_proj.weight.detach().numpy() == 1.0)
    if tag != "R50":  # detectron2 orders the parts of a residual block in another way
        assert list(model.state_dict()) == list(weights)
    _assert_official_groups(model, official)


def _assert_official_groups(model: RelaSegmentor, official: dict[str, Any]) -> None:
    names = {id(value): name for name, value in model.named_parameters()}
    counts: dict[str, ArrayLike] = {}
    for group in model.parameter_groups(RelaOptions()):
        key = f"lr={group['lr']:g},wd={group['weight_decay']}"
        sizes = [parameter.numel() for parameter in group["params"]]
        counts[key] = np.add(counts.get(key, (0, 0)), (len(sizes), sum(sizes)))
        if not group["weight_decay"]:
            own = {names[id(parameter)] for parameter in group["params"]}
            assert own <= {_own_name(name) for name in official["wd0_names"]}
    theirs = {
        key.replace("1e-05", f"{1e-05:g}"): value
        for key, value in official["groups_by_lr_wd"].items()
    }
    assert {key: list(value) for key, value in counts.items()} == theirs  # type: ignore[call-overload]
    frozen = [name for name, value in model.named_parameters() if not value.requires_grad]
    assert frozen == official["require_grad_but_not_in_optimizer"]


def test_the_published_solver_is_the_default() -> None:
    config, solver = RelaOptions(), manifest("rela", "swin_base")["solver"]
    assert config.learning_rate == solver["BASE_LR"]
    assert config.weight_decay == solver["WEIGHT_DECAY"]
    assert config.batch_size == solver["IMS_PER_BATCH"]
    assert config.max_grad_norm == solver["CLIP_GRADIENTS"]["CLIP_VALUE"]
    assert config.optimizer == solver["OPTIMIZER"].lower()
    assert config.gamma == solver["GAMMA"]
    shares = [step / solver["MAX_ITER"] for step in solver["STEPS"]]
    np.testing.assert_allclose(np.divide(config.milestones, config.epochs), shares, atol=0.03)
