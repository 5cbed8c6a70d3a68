"""Evaluation, PRMS and prediction are in float32, whatever a training has set, or as asked."""

import inspect
from pathlib import Path

import numpy as np
import pytest
import torch

from risflow.predict.model import Model
from stages.backbones.clip import frozen
from stages.config.load import load_configs
from stages.config.section import Precision
from stages.config.steps import Evaluation, Prms
from stages.inference.inference import Inference
from stages.models.saved import Saved, build_segmentor, load_model
from stages.runtime.device import inferring, set_up_gpu
from tests.conftest import ROOT, few_shapes
from tests.imported import batches, imported, masks

CPU = torch.device("cpu")
SETTINGS = {  # autocast, products of matrices, TF32 of convolutions
    "float32": (False, "highest", False),
    "tf32": (False, "highest", True),
    "bfloat16": (True, "high", True),
}


def settings() -> tuple[bool, str, bool]:
    return (
        torch.is_autocast_enabled("cpu"),
        torch.get_float32_matmul_precision(),
        torch.backends.cudnn.allow_tf32,
    )


@pytest.mark.parametrize("precision", SETTINGS)
def test_inference_sets_its_precision_and_puts_back_what_was_set(precision: Precision) -> None:
    before = settings()
    for training in ("float32", "bfloat16"):
        try:
            set_up_gpu(training, deterministic=False, has_one_shape=False)
            during_training = settings()
            with inferring(CPU, precision):
                assert settings() == SETTINGS[precision] and torch.is_inference_mode_enabled()
            assert settings() == during_training
        finally:
            torch.set_float32_matmul_precision(before[1])
            torch.backends.cudnn.allow_tf32 = before[2]


def test_a_training_in_tf32_has_the_defaults_of_pytorch() -> None:
    before = settings()
    try:
        set_up_gpu("tf32", deterministic=False, has_one_shape=False)
        assert settings() == (False, "highest", True)
    finally:
        torch.backends.cudnn.allow_tf32 = before[2]


def test_the_default_is_float32() -> None:
    assert (Evaluation().precision, Prms().precision) == ("float32", "float32")
    for function in (Inference.__init__, Model.__init__):
        assert inspect.signature(function).parameters["precision"].default == "float32"


def test_maps_in_bfloat16_are_those_of_float32_but_for_8_bits(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(ROOT)  # configs name the small CLIP from here
    torch.manual_seed(0)
    config = load_configs(ROOT / "configs").experiments["refshapes_cris"].segmentor
    model = frozen(build_segmentor(config, pretrained=False))
    saved = Saved(model, config, config.image_size)
    inference = Inference(saved, CPU)
    batch = {
        "images": torch.randint(
            256, (1, 3, config.image_size, config.image_size), dtype=torch.uint8
        ),
        "tokens": inference.tokenizer(["a red circle", "the left star"]),
        "image_index": torch.tensor([0, 0]),
    }
    shape = [(config.image_size, config.image_size)]
    maps = {}
    for precision in ("float32", "tf32", "bfloat16"):
        results = Inference(saved, CPU, precision).predict(batch, shape)
        maps[precision] = torch.stack([result.map for result in results])
    assert torch.equal(maps["float32"], maps["tf32"])  # on a CPU
    rounding = (maps["bfloat16"] - maps["float32"]).abs().max() / maps["float32"].std()
    assert 1e-5 < rounding < 0.5


@pytest.mark.slow
def test_an_imported_official_file_is_scored_as_its_model_computes_in_float32(
    tmp_path: Path,
) -> None:
    """TRIS stage 1 by its manifest, with random weights, after a training in bfloat16."""
    samples = few_shapes(tmp_path / "shapes", train_images=1, val_images=1, test_images=1)
    model = imported("tris_stage1", tmp_path)
    inference = Inference(load_model(model), CPU)
    before = settings()
    set_up_gpu("bfloat16", deterministic=False, has_one_shape=False)
    try:
        pairs = list(masks(model, samples, CPU, "float32"))
    finally:
        torch.set_float32_matmul_precision(before[1])
        torch.backends.cudnn.allow_tf32 = before[2]
    with torch.inference_mode():
        maps = [
            inference.resize_mode.restore(
                small[None], shapes[image], inference.model.background_value
            )
            for batch, shapes in batches(inference, samples)
            for small, image in zip(
                inference.model.predict(
                    {**batch, "images": inference.resize_mode.normalize(batch["images"])}
                ),
                batch["image_index"].tolist(),
                strict=True,
            )
        ]
    assert len(pairs) == len(maps) > 0
    for (mask, _), own in zip(pairs, maps, strict=True):
        assert np.array_equal(mask, (own[0] > 0).numpy())
