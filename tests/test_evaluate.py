"""Pixels counted on run lengths give the rows that decoded masks give."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from stages import evaluate
from stages.metrics.failures import group, rival_pixels
from stages.metrics.generalized import outcome
from stages.metrics.iou import intersection_union, is_in_mask
from stages.storage.masks import common_area, contains, encode
from stages.storage.tables import Samples, write_samples, write_table

SHAPES = [(9, 14), (1, 11), (20, 6)]  # of images, with three objects each


def blob(draw: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    """A box with holes; sometimes nothing, sometimes everything."""
    kind = draw.integers(6)
    if kind < 2:
        return np.full(shape, bool(kind))
    mask = np.zeros(shape, bool)
    top, left = draw.integers(0, shape[0]), draw.integers(0, shape[1])
    mask[top : top + 6, left : left + 7] = True
    return mask & (draw.random(shape) < 0.8)


def test_rows_are_those_of_decoded_masks(tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    images, objects, expressions, predictions = [], [], [], []
    truths, guesses = [], []
    for number, shape in enumerate(SHAPES):
        size = {"width": shape[1], "height": shape[0]}
        images.append({"image": number, "file": f"{number}.png", **size})
        for _ in range(3):
            target, truth = len(objects), blob(draw, shape)
            truths.append(truth)
            nothing = not truth.any()
            known = {"object": target, "image": number, "split": "val", "name": str(target)}
            box = {"category": "", "boxes": [[0, 0, 3, 3]], "no_target": nothing}
            objects.append({**known, **box, "mask": encode(truth)})
            for _ in range(8):
                name, guess = len(expressions), blob(draw, shape)
                guesses.append(guess)
                text = {"text": "it", "kind": "", "raw": None}
                expressions.append({"expression": name, "object": target, **text})
                point = {"row": draw.integers(shape[0]), "column": draw.integers(shape[1])}
                absent = bool(draw.random() < 0.3)
                predictions.append(
                    {
                        **{"expression": name, "object": target, "score": 1.0},
                        **{"height": shape[0], "width": shape[1], **point},
                        **{"mask": encode(guess), "no_target": absent},
                    }
                )
    write_samples(
        tmp_path, Samples(pd.DataFrame(images), pd.DataFrame(objects), pd.DataFrame(expressions))
    )
    write_table(tmp_path / "p.parquet", "predictions", predictions)
    evaluate.run(tmp_path, "val", "segmentor", tmp_path / "rows.parquet", [tmp_path / "p.parquet"])
    rows = pd.read_parquet(tmp_path / "rows.parquet")
    assert len(rows) == len(guesses)
    for row in rows.itertuples():
        prediction, guess = predictions[row.expression], guesses[row.expression]
        truth, absent = truths[row.object], prediction["no_target"]
        counted = guess & (not absent)
        others = [
            other
            for number, other in enumerate(truths)
            if number // 3 == row.object // 3 and number != row.object
        ]
        assert (row.intersection, row.union) == intersection_union(counted, truth)
        assert row.area == truth.mean()
        assert row.group == group(
            counted, truth, lambda m=counted, t=truth, o=others: rival_pixels(m, t, np.stack(o))
        )
        expected = outcome(guess, truth, not truth.any(), absent)
        assert row.generalized_intersection == expected.intersection
        assert row.generalized_union == expected.union
        assert row.generalized_iou == expected.iou
        if truth.any():
            point = (prediction["row"], prediction["column"])
            assert row.peak_in_mask == is_in_mask(point, truth)
    assert set(rows.group) == {"right", "wrong_object", "too_much", "too_little", "nothing"}


@pytest.mark.parametrize("shape", SHAPES)
def test_common_pixels_and_points_are_those_of_the_masks(shape: tuple[int, int]) -> None:
    draw = np.random.default_rng(1)
    masks = [draw.random(shape) < 0.6 for _ in range(3)]
    texts = [encode(mask) for mask in masks]
    assert common_area(texts, *shape) == np.logical_and.reduce(masks).sum()
    for point in np.ndindex(shape):
        assert contains(texts[0], point, *shape) == masks[0][point]
