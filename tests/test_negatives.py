"""Negative expressions: of other objects of the image, or else another text of the split."""

import numpy as np
import pandas as pd
import pytest

from stages.data.negatives import Negatives
from stages.runtime.errors import InputError
from stages.storage.tables import SCHEMAS, Samples


def samples_of(texts: dict[int, list[list[str]]]) -> Samples:
    """Objects of images: the expressions of each object, by image."""
    objects, expressions = [], []
    for image, message in texts.items():
        for texts_of_object in message:
            target = len(objects)
            objects.append([target, image, "train", str(target), None, None, None, False])
            for text in texts_of_object:
                expressions.append([len(expressions), target, text, None, None])
    return Samples(
        pd.DataFrame([], columns=SCHEMAS["images"].names),
        pd.DataFrame(objects, columns=SCHEMAS["objects"].names),
        pd.DataFrame(expressions, columns=SCHEMAS["expressions"].names),
    )


def test_negatives_are_of_the_other_objects_of_the_image() -> None:
    samples = samples_of({3: [["a", "b"], ["c"], ["d", "e"]], 8: [["f"], ["g"]]})
    drawn = Negatives(samples).draw(1, 2, 200, np.random.default_rng(0))
    assert set(samples.expressions.text[drawn]) == {"a", "b", "d", "e"}


def test_an_object_alone_in_its_image_gets_other_texts_of_the_split() -> None:
    samples = samples_of({3: [["a", "b"]], 8: [["a"], ["c"]]})
    drawn = Negatives(samples).draw(0, 0, 200, np.random.default_rng(0))
    assert set(samples.expressions.text[drawn]) == {"b", "c"}


def test_the_same_generator_draws_the_same_negatives() -> None:
    negatives = Negatives(samples_of({3: [["a", "b"], ["c", "d"]]}))
    one, again = (negatives.draw(0, 0, 9, np.random.default_rng(5)) for _ in range(2))
    np.testing.assert_array_equal(one, again)


def test_a_split_that_says_one_text_only_is_refused() -> None:
    negatives = Negatives(samples_of({3: [["a"]], 8: [["a"]]}))
    with pytest.raises(InputError, match="every expression of the split is 'a'"):
        negatives.draw(0, 0, 1, np.random.default_rng(0))
