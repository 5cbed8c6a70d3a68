"""The small CLIP: its training pairs, its training, and the one that is kept in data/."""

from pathlib import Path

import numpy as np
import pytest
import torch

from stages import pretrain_clip
from stages.backbones.clip import frozen, load_clip
from stages.config.encoders import ClipSource
from stages.config.steps import PretrainClip
from stages.data.shapes.pretraining import ContrastivePairs, Pair, draw_mask, draw_scene
from stages.data.shapes.words import vocabulary
from stages.data.text import WordTokenizer, load_tokenizer
from stages.storage.files import read_json

DATA = Path(__file__).parents[1] / "data"
TINY = PretrainClip(scenes=12, epochs=2, crop_epochs=1, batch_size=6, width=4, text_width=16)


@pytest.fixture(scope="module")
def pairs() -> ContrastivePairs:
    return ContrastivePairs(TINY, WordTokenizer(vocabulary(), 20), 96)


@pytest.fixture(scope="module")
def kept() -> ClipSource:
    """The small CLIP of the repository."""
    return ClipSource(
        model=str(DATA / "small_clip.json"),
        weights=DATA / "small_clip.safetensors",
        output_stride=8,
    )


def test_the_same_address_gives_the_same_pair_and_another_epoch_another(
    pairs: ContrastivePairs,
) -> None:
    first, again, other = (
        pairs.collate([pairs[epoch, n] for n in range(6)]) for epoch in (1, 1, 2)
    )
    assert torch.equal(first["images"], again["images"]) and torch.equal(
        first["tokens"], again["tokens"]
    )
    assert first["images"].shape != other["images"].shape or not torch.equal(
        first["images"], other["images"]
    )


def test_the_first_epochs_are_crops_of_one_item(pairs: ContrastivePairs) -> None:
    batch = pairs.collate([pairs[0, n] for n in range(6)])
    assert batch["images"].shape == (6, 3, 56, 56)
    assert batch["rivals"].shape == (6, 6) and batch["rivals"].diagonal().all()


def test_masked_pairs_come_in_twos_of_one_scene_that_contrast_each_other() -> None:
    config = TINY.model_copy(update={"masked_fraction": 1.0})
    pairs = ContrastivePairs(config, WordTokenizer(vocabulary(), 20), 96)
    twos = [pairs[1, number] for number in range(12)]
    assert all(len(two) == 2 and two[0].scene == two[1].scene for two in twos)
    rivals = pairs.collate(twos)["rivals"].numpy()
    for number, (first, second) in enumerate(twos):
        if first.text != second.text:
            row, other = 2 * number, 2 * number + 1
            assert rivals[row, other] and rivals[other, row]


def test_a_text_of_another_scene_that_fits_by_chance_does_not_contrast(
    pairs: ContrastivePairs,
) -> None:
    drawn = [pairs[0, number][0] for number in range(12)]
    rivals = pairs.collate([[pair] for pair in drawn])["rivals"].numpy()
    for row, image in enumerate(drawn):
        for column, text in enumerate(drawn):
            visible, named = np.array(image.visible[0][:4]), np.array(text.named[:4])
            fits = bool(((named == -1) | (named == visible)).all()) and row != column
            fits |= image.text == text.text and row != column
            assert rivals[row, column] == (not fits)


def test_a_place_contrasts_items_of_other_scenes_that_lie_elsewhere(
    pairs: ContrastivePairs,
) -> None:
    red_circle, unnamed = (0, 0, 0, 0), -1
    in_directions = {"left": (1, 0, 1, 0), "right": (0, 1, 1, 0)}  # left, right, top, bottom
    blank = np.zeros((96, 96, 3), np.uint8)
    drawn = [
        Pair(
            0, blank, None, "red circle on the left", (*red_circle, 0), [(*red_circle, 1, 0, 0, 1)]
        ),
        Pair(
            1, blank, None, "circle", (*red_circle, unnamed), [red_circle + in_directions["left"]]
        ),
        Pair(
            2, blank, None, "circles", (*red_circle, unnamed), [red_circle + in_directions["right"]]
        ),
    ]
    rivals = pairs.collate([[pair] for pair in drawn])["rivals"]
    assert not rivals[1, 0], "the item on the left fits the text"
    assert rivals[2, 0], "the item on the right does not"
    assert not rivals[0, 1] and not rivals[0, 2], "a text without a place fits both"


def test_a_mask_keeps_its_item_more_than_the_image() -> None:
    ratios = []
    for number in range(40):
        scene, rng = draw_scene((5, number), 96), np.random.default_rng([6, number])
        mask, item = draw_mask(rng, scene, 0), scene.items[0]
        ratios.append(mask[int(item.y), int(item.x)] / mask.mean())
        assert mask.min() >= 0 and mask.max() <= 10
    assert np.median(ratios) > 3


def test_training_writes_weights_description_and_record(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pretrain_clip, "NUM_TEST_SCENES", 5)
    weights, model = tmp_path / "clip.safetensors", tmp_path / "clip.json"
    record, work = tmp_path / "clip.log.json", tmp_path / "work"
    pretrain_clip.run(weights, model, record, work, TINY)
    source = ClipSource(model=str(model), weights=weights, output_stride=8)
    clip, tokens = load_clip(source), load_tokenizer(source)(["the red circle", "a zebra"])
    assert clip.encode_text(tokens)[1].shape == (2, TINY.embedding)
    accuracy = read_json(record)["accuracy"]
    assert accuracy.keys() == {"attribute", "place", "relation", "expression", "object", "chance"}


def test_the_kept_small_clip_knows_the_words_of_the_generator(kept: ClipSource) -> None:
    assert read_json(Path(kept.model))["vocabulary"] == vocabulary()
    assert kept.weights is not None and kept.weights.stat().st_size < 3_000_000


def test_the_kept_small_clip_tells_the_items_of_new_scenes_apart(
    kept: ClipSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pretrain_clip, "NUM_TEST_SCENES", 40)
    accuracy = pretrain_clip.judge_accuracy(frozen(load_clip(kept)), load_tokenizer(kept), seed=99)
    assert accuracy["chance"] < 0.35
    assert accuracy["object"] > 0.75 and accuracy["attribute"] > 0.75
