"""Batches: every expression is with the image, the mask and the text of its own object."""


import numpy as np
import pytest
import torch

from stages import make_refshapes, prepare
from stages.core.config import DatasetConfig, RefShapes
from stages.core.masks import decode
from stages.core.tables import Samples, read_samples
from stages.data.dataset import ReferringDataset, inference_batches
from stages.data.images import normalize, read_image, square
from stages.data.shapes.words import vocabulary
from stages.data.text import WordTokenizer

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
    batch = data.collate([data[0, index] for index in range(len(data))])
    check(batch, samples)
    images = samples.images.image.nunique()
    assert len(batch["images"]) == (images if share_images else len(data))


def test_without_shared_images_row_and_image_have_the_same_number(samples: Samples) -> None:
    data = ReferringDataset(samples, TOKENIZER, 96, share_images=False)
    batch = data.collate([data[0, index] for index in range(len(data))])
    assert batch["image_index"].tolist() == list(range(len(data)))


def test_a_pass_over_a_split_sees_every_expression_once(samples: Samples) -> None:
    data = ReferringDataset(samples, TOKENIZER, 96)
    seen: list[int] = []
    for batch in inference_batches(data, expressions_per_batch=30):
        check(batch, samples)
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
