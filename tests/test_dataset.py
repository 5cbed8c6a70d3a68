"""Batches: every expression is with the image, the mask and the text of its own object."""

import logging
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from stages import make_refshapes, prepare
from stages.config.datasets import DatasetConfig, RefShapes
from stages.data.dataset import ReferringDataset, inference_batches
from stages.data.images import MEAN, normalize, read_image, square
from stages.data.resize_modes import CLIP_DEVIATION, CLIP_MEAN
from stages.data.shapes.words import vocabulary
from stages.data.text import WordTokenizer
from stages.runtime.errors import InputError
from stages.storage.masks import decode, encode
from stages.storage.tables import Samples, read_samples

TOKENIZER = WordTokenizer(vocabulary(), 20)


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> Samples:
    folder = tmp_path_factory.mktemp("data")
    make_refshapes.run(folder, RefShapes(train_images=8, val_images=1, test_images=1))
    prepare.run(folder / "samples.json", DatasetConfig(source="refshapes", annotations=folder))
    return read_samples(folder / "samples.json").split("train")


def check(batch: dict[str, torch.Tensor], samples: Samples) -> None:
    """Image, tokens and mask of each expression, looked up in the tables."""
    expressions = samples.expressions.set_index("expression")
    objects = samples.objects.set_index("object")
    files = samples.images.set_index("image").file
    for row, expression in enumerate(batch["expression"].tolist()):
        target = objects.loc[expressions.object[expression]]
        image = normalize(square(read_image(files[target.image]), 96)[None])[0]
        assert torch.equal(batch["images"][batch["image_index"][row]], image)
        assert torch.equal(batch["tokens"][row], TOKENIZER([expressions.text[expression]])[0])
        if "masks" in batch:
            mask = decode(target["mask"], 96, 96)
            np.testing.assert_array_equal(batch["masks"][row].numpy() > 0.5, mask)


@pytest.mark.parametrize("share_images", [True, False])
def test_a_training_batch_keeps_image_text_and_mask_of_an_object_together(
    samples: Samples, share_images: bool
) -> None:
    masks = dict(zip(samples.objects.object, samples.objects["mask"], strict=True))
    data = ReferringDataset(
        samples, TOKENIZER, 96, masks=masks, share_images=share_images, expressions_per_object=2
    )
    batch = data.prepare(data.collate([data[0, index] for index in range(len(data))]))
    check(batch, samples)
    images = samples.images.image.nunique()
    assert len(batch["images"]) == (images if share_images else len(data))


def test_without_shared_images_row_and_image_have_the_same_number(samples: Samples) -> None:
    data = ReferringDataset(samples, TOKENIZER, 96, share_images=False)
    batch = data.prepare(data.collate([data[0, index] for index in range(len(data))]))
    assert batch["image_index"].tolist() == list(range(len(data)))


def test_a_pass_over_a_split_sees_every_expression_once(samples: Samples) -> None:
    data = ReferringDataset(samples, TOKENIZER, 96)
    seen: list[int] = []
    for batch in inference_batches(data, expressions_per_batch=30):
        assert batch["images"].dtype == torch.uint8
        check(data.prepare(batch), samples)
        seen += batch["expression"].tolist()
    assert sorted(seen) == samples.expressions.expression.tolist()


def test_an_item_is_a_function_of_seed_epoch_and_number(samples: Samples) -> None:
    data = ReferringDataset(samples, TOKENIZER, 96, seed=1, negatives=3)
    again = ReferringDataset(samples, TOKENIZER, 96, seed=1, negatives=3)
    one, two = data[4, 2], again[4, 2]
    assert one.expressions == two.expressions
    np.testing.assert_array_equal(one.negatives, two.negatives)
    assert any(data[epoch, 2].expressions != one.expressions for epoch in range(12))


def test_negatives_are_never_of_the_same_object(samples: Samples) -> None:
    data = ReferringDataset(samples, TOKENIZER, 96, negatives=3)
    owner = samples.expressions.set_index("expression").object
    for index in range(len(data)):
        item = data[0, index]
        assert item.negatives.shape == (1, 3)
        assert owner[item.expressions[0]] not in set(owner[item.negatives.ravel()])


FEW_WORDS = WordTokenizer(["the", "red", "cup", "left"], context_length=6)
TEXTS = ["the cup", "red cup", "left cup", "the red cup", "the left", "red"]


@pytest.fixture
def cups(tmp_path: Path) -> Samples:
    """Two images; the objects of the first are not neighbors in the table."""
    for name in ("a.png", "b.png"):
        Image.new("RGB", (8, 6), "red").save(tmp_path / name)
    files = [str(tmp_path / name) for name in ("a.png", "b.png")]
    mask = np.zeros((6, 8), dtype=bool)
    mask[:3] = True
    return Samples(
        pd.DataFrame({"image": [0, 1], "file": files, "width": 8, "height": 6}),
        pd.DataFrame(
            {
                "object": [0, 1, 2],
                "image": [0, 1, 0],
                "split": "train",
                "mask": encode(mask),
                "no_target": [False, False, True],
            }
        ),
        pd.DataFrame({"expression": range(6), "object": [0, 0, 1, 1, 2, 2], "text": TEXTS}),
    )


def test_a_batch_holds_each_image_once_and_says_whose_the_expressions_are(
    cups: Samples,
) -> None:
    mask = cups.objects.set_index("object")["mask"].to_dict()
    data = ReferringDataset(cups, FEW_WORDS, 4, expressions_per_object=2, masks=mask)
    batch = data.prepare(data.collate([data[(0, index)] for index in range(3)]))
    assert batch["images"].shape == (2, 3, 4, 4)
    assert batch["image_index"].tolist() == [0, 0, 1, 1, 0, 0]
    assert batch["no_target"].tolist() == [0, 0, 0, 0, 1, 1]
    assert sorted(batch["expression"].tolist()) == list(range(6))
    assert batch["masks"].shape == (6, 4, 4)
    assert batch["masks"][0].tolist() == [[1.0] * 4] * 2 + [[0.0] * 4] * 2


def test_a_pass_keeps_an_image_and_the_expressions_of_each_object_together(
    cups: Samples,
) -> None:
    data = ReferringDataset(cups, FEW_WORDS, 4)
    batches = list(inference_batches(data, expressions_per_batch=4))
    assert [batch["expression"].tolist() for batch in batches] == [[0, 1, 4, 5], [2, 3]]
    assert [batch["image"].tolist() for batch in batches] == [[0], [1]]


def test_expressions_that_are_too_long_are_named(
    cups: Samples, caplog: pytest.LogCaptureFixture
) -> None:
    long = cups.expressions.copy()
    long.loc[3, "text"] = "the red cup left the red cup"
    with caplog.at_level(logging.WARNING):
        data = ReferringDataset(Samples(cups.images, cups.objects, long), FEW_WORDS, image_size=4)
    assert "1 of 6 expressions are longer than 6 tokens" in caplog.text
    assert caplog.text.rstrip().endswith(": 3")
    assert data.tokens[3, -1] == FEW_WORDS.end


def test_objects_without_mask_are_named(cups: Samples) -> None:
    with pytest.raises(InputError, match=r"1 of 3 objects have no mask \(objects 1"):
        ReferringDataset(cups, FEW_WORDS, 4, masks={0: "", 2: ""})


def test_images_are_resized_and_normalized_as_officially() -> None:
    picture = Image.new("RGB", (5, 7), (255, 0, 0))
    pixels = normalize(square(picture, 4)[None])
    assert pixels.shape == (1, 3, 4, 4)
    assert torch.allclose(pixels[0, 0], torch.tensor((1 - MEAN[0]) / 0.229))


def test_each_expression_can_be_an_item_of_its_own(cups: Samples) -> None:
    mask = cups.objects.set_index("object")["mask"].to_dict()
    data = ReferringDataset(cups, FEW_WORDS, 4, expressions_per_object=None, masks=mask)
    batch = data.prepare(data.collate([data[(0, index)] for index in range(len(data))]))
    assert batch["expression"].tolist() == list(range(6))
    assert batch["image_index"].tolist() == [0, 0, 1, 1, 0, 0]


def test_letterboxed_images_have_the_normalization_of_clip(cups: Samples) -> None:
    mask = cups.objects.set_index("object")["mask"].to_dict()
    data = ReferringDataset(cups, FEW_WORDS, 8, resize_mode="letterbox", masks=mask)
    batch = data.prepare(data.collate([data[(0, 0)]]))
    around = (torch.tensor([123, 117, 104]) / 255 - torch.tensor(CLIP_MEAN)) / torch.tensor(
        CLIP_DEVIATION
    )
    torch.testing.assert_close(batch["images"][0, :, 0, 0], around)
    # 6 rows of 8 lie in the middle of 8 x 8: the mask is the upper half of them.
    assert (batch["masks"][0] > 0.5).any(dim=1).tolist() == [False] + 3 * [True] + 4 * [False]
