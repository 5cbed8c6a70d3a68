"""Predictions that are encoded on the device are those that are decoded one by one."""

import pytest
import torch

from stages.config.load import load_configs
from stages.inference import inference
from stages.inference.inference import Inference
from stages.models.saved import Saved, build_segmentor
from stages.storage.masks import encode
from tests.conftest import ROOT

EXPERIMENTS = load_configs(ROOT / "configs").experiments
SHAPES = [(70, 96), (41, 33), (1, 50)]


@pytest.mark.parametrize("values", [20_000_000, 2 * 70 * 96])
@pytest.mark.parametrize("name", ["refshapes_tris_masks", "refshapes_cris", "refshapes_rela"])
def test_masks_peaks_and_scores_of_the_device_equal_those_of_each_map(
    name: str, values: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)  # configs name the small CLIP from here
    monkeypatch.setattr(inference, "VALUES_AT_ONCE", values)
    torch.manual_seed(0)
    config = EXPERIMENTS[name].segmentor
    model = build_segmentor(config, pretrained=False)
    made = Inference(Saved(model, config, config.image_size), torch.device("cpu"))
    texts = ["a red circle", "the left star", "a small blue ring", "the cross", "it", "a heart"]
    batch = {
        "images": torch.randint(
            256, (3, 3, config.image_size, config.image_size), dtype=torch.uint8
        ),
        "tokens": made.tokenizer(texts),
        "image_index": torch.tensor([0, 0, 0, 1, 2, 2]),
    }
    expected = list(made.predict(batch, SHAPES))
    encoded = list(made.encode(batch, SHAPES))
    assert len(encoded) == len(expected) == len(texts)
    for ours, theirs in zip(encoded, expected, strict=True):
        assert ours.mask == encode(theirs.mask)
        assert (ours.peak, ours.score) == (theirs.peak, theirs.score)
        assert ours.no_target == theirs.no_target
