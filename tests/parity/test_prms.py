"""PRMS against the official validate_same_sentence: scores, choice, and the map that it saves."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from stages.data import response_maps as response
from stages.models.prms import choose_maps
from tests.parity import recipes, tris_models
from tests.parity.golden import assert_close, cases, load

# One thread against two moves a response by 6e-6; two codes: three times that. The saved map is the
# response over its maximum, which enlarges the difference as much. A cosine sees the mean of it.
RESPONSE = 2e-5
COSINE = 5e-6


@pytest.fixture(scope="module", autouse=True)
def released() -> Iterator[None]:
    yield
    tris_models.release()


@pytest.mark.parametrize("path", cases("tris", "prms_*"), ids=lambda path: path.stem)
@torch.no_grad()
def test_the_official_map_is_chosen(path: Path, device: torch.device) -> None:
    golden = load(path)
    weights, seed = golden.meta["weight_seed"], golden.meta["input_seed"]
    size, count = golden.meta["size"], golden.meta["K"]
    shape = (golden.meta["target_size"][0], golden.meta["target_size"][1])
    model, judge = tris_models.stage1(weights, device).eval(), tris_models.judge(weights, device)
    shapes = (1, 3, size, size)
    images = torch.cat([recipes.image(shapes, seed, f"prms_image{i}") for i in range(2)])
    images = images.to(device)
    tokens = torch.cat([recipes.tokens(count, 8, 20, seed, f"prms_tokens{i}") for i in range(2)])
    tokens = tokens.to(device)
    image_index = torch.arange(2, device=device).repeat_interleave(count)

    grids = model(images, tokens, image_index)
    texts = judge.encode_text(tokens)[1]
    choices = choose_maps(judge, images, grids, texts, image_index, [count, count], batch_size=4)

    assert_close("pair_scores", torch.stack([choice.scores for choice in choices]), golden, COSINE)
    totals = torch.stack([choice.totals for choice in choices])
    assert_close("total_scores", totals, golden, count * COSINE)
    assert [choice.index for choice in choices] == golden.arrays["index"].tolist()
    for number, choice in enumerate(choices):
        row = number * count + choice.index
        full = response.full_map(grids[row, None], size, shape)
        tolerance = RESPONSE / max(float(full.max()), 0.01)
        assert_close(f"cam_{number}", response.normalize(full)[0], golden, tolerance)
