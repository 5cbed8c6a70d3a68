"""Pixels counted on run lengths give the rows that decoded masks give."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from stages import evaluate
from stages.config.section import EmptyResponse
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


SIDE = 7  # of the square that the model sees


def test_rows_are_those_of_decoded_masks(tmp_path: Path) -> None:
    squares: list[np.ndarray] = []
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
                squares.append(np.random.default_rng(name).random((SIDE, SIDE)) < 0.5)
                predictions.append(
                    {
                        **{"expression": name, "object": target, "score": 1.0},
                        **{"height": shape[0], "width": shape[1], **point},
                        **{"mask": encode(guess), "no_target": absent},
                        "input_mask": encode(squares[-1]),
                    }
                )
    write_samples(
        tmp_path, Samples(pd.DataFrame(images), pd.DataFrame(objects), pd.DataFrame(expressions))
    )
    write_table(tmp_path / "p.parquet", "predictions", predictions)
    evaluate.run(
        *(tmp_path, "val", "segmentor", tmp_path / "rows.parquet", [tmp_path / "p.parquet"]),
        side=SIDE,
    )
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
        stretched = Image.fromarray(truth).resize((SIDE, SIDE), Image.Resampling.NEAREST)
        square, small = squares[row.expression], np.asarray(stretched)
        counted = intersection_union(square & (not absent), small)
        assert (row.square_intersection, row.square_union) == counted
        expected = outcome(square, small, not truth.any(), absent)
        assert row.square_generalized_union == expected.union
        assert row.square_generalized_iou == expected.iou and row.square_side == SIDE
        if truth.any():
            point = (prediction["row"], prediction["column"])
            assert row.peak_in_mask == is_in_mask(point, truth)
    assert set(rows.group) == {"right", "wrong_object", "too_much", "too_little", "nothing"}


@pytest.mark.parametrize(
    ("option", "score", "iou"),
    [("empty", -0.5, 0.0), ("whole_image", -0.5, 0.25), ("whole_image", 0.0, 0.0)],
)
def test_a_map_that_is_negative_everywhere_can_be_the_whole_image(
    tmp_path: Path, option: EmptyResponse, score: float, iou: float
) -> None:
    """As validate.py has it (golden metrics_seed0, item 18); a map of zeros stays empty."""
    truth = np.zeros((4, 8), bool)
    truth[:2, :4] = True
    size = {"width": 8, "height": 4}
    objects = {"object": 0, "image": 0, "split": "val", "name": "0", "category": ""}
    tables = [
        {"image": 0, "file": "a.png", **size},
        {**objects, "boxes": [[0, 0, 4, 2]], "no_target": False, "mask": encode(truth)},
        {"expression": 0, "object": 0, "text": "it", "kind": "", "raw": None},
    ]
    write_samples(tmp_path, Samples(*(pd.DataFrame([row]) for row in tables)))
    empty = {"mask": encode(np.zeros((4, 8), bool)), "no_target": True, "score": score}
    square = {"input_mask": encode(np.zeros((8, 8), bool))}
    row = {"expression": 0, "object": 0, **size, **empty, **square, "row": 1, "column": 1}
    write_table(tmp_path / "p.parquet", "predictions", [row])
    evaluate.run(
        *(tmp_path, "val", "segmentor", tmp_path / "rows.parquet", [tmp_path / "p.parquet"]),
        empty_response=option,
        side=8,
    )
    rows = pd.read_parquet(tmp_path / "rows.parquet")
    assert rows.iou.tolist() == rows.square_iou.tolist() == [iou]


@pytest.mark.parametrize("shape", SHAPES)
def test_common_pixels_and_points_are_those_of_the_masks(shape: tuple[int, int]) -> None:
    draw = np.random.default_rng(1)
    masks = [draw.random(shape) < 0.6 for _ in range(3)]
    texts = [encode(mask) for mask in masks]
    assert common_area(texts, *shape) == np.logical_and.reduce(masks).sum()
    for point in np.ndindex(shape):
        assert contains(texts[0], point, *shape) == masks[0][point]
