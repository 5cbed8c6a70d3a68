"""Run lengths counted on a device are those of pycocotools."""

import numpy as np
import pytest
import torch

from stages.storage.encode_masks import encode_all
from stages.storage.masks import area, decode, encode


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (9, 1), (7, 5), (480, 640)])
def test_each_mask_has_the_same_text_as_alone(size: tuple[int, int]) -> None:
    draw = np.random.default_rng(0)
    masks = np.stack(
        [
            np.zeros(size, bool),
            np.ones(size, bool),
            draw.random(size) < 0.5,
            draw.random(size) < 0.01,
            np.indices(size).sum(0) < sum(size) / 2,
            np.zeros(size, bool),
        ]
    )
    texts = encode_all(torch.from_numpy(masks))
    assert texts == [encode(mask) for mask in masks]
    assert [area(text, *size) for text in texts] == masks.sum((1, 2)).tolist()
    np.testing.assert_array_equal(decode(texts[2], *size), masks[2])


def test_no_masks_have_no_texts() -> None:
    assert encode_all(torch.zeros((0, 4, 5), dtype=torch.bool)) == []
