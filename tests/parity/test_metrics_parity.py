"""Masks, points and boxes of given maps, scored as the official validate() scores them."""

from pathlib import Path

import numpy as np
import pytest
import torch

from stages.data import response_maps as response
from stages.metrics import iou as metrics
from stages.metrics.boxes import find_boxes, score_boxes
from tests.parity.golden import Golden, cases, load

FLOAT32 = 1e-6  # the official averages are in float32


@pytest.mark.parametrize("path", cases("tris", "metrics_*"), ids=lambda path: path.stem)
def test_every_sample_is_scored_as_officially(path: Path) -> None:
    golden = load(path)
    actual = _score(golden)
    for name in ("I", "U", "hit", "hitm", "loc", "box_acc"):
        np.testing.assert_array_equal(actual[name], golden.arrays[name], err_msg=name)
    np.testing.assert_allclose(actual["box_iou"], golden.arrays["box_iou"], atol=FLOAT32)


@pytest.mark.parametrize("path", cases("tris", "metrics_*"), ids=lambda path: path.stem)
def test_the_same_boxes_are_found(path: Path) -> None:
    golden = load(path)
    for number, theirs in enumerate(golden.meta["generated_boxes"]):
        full = _full_map(golden, number)
        ours = [list(box) for box in find_boxes(metrics.foreground(full))]
        # Where nothing is found, the official code lists its stand-in twice.
        assert ours == (theirs[:1] if theirs[0] == theirs[-1] else theirs)


@pytest.mark.parametrize("path", cases("tris", "metrics_*"), ids=lambda path: path.stem)
def test_the_summary_is_the_official_one(path: Path) -> None:
    golden = load(path)
    actual = _score(golden)
    scores = metrics.summarize(
        actual["I"], actual["U"], actual["hit"], actual["hitm"], empty=float("nan")
    )
    theirs = {name: value / 100 for name, value in golden.meta["aggregate"].items()}
    assert scores.overall_iou == pytest.approx(theirs["oIoU"], abs=FLOAT32)
    assert scores.mean_iou == pytest.approx(theirs["mIoU"], abs=FLOAT32, nan_ok=True)
    assert scores.pointing_accuracy == pytest.approx(theirs["hit"], abs=FLOAT32)
    assert scores.pointing_accuracy_mask == pytest.approx(theirs["hitM"], abs=FLOAT32)
    assert np.mean(actual["box_iou"]) == pytest.approx(theirs["box_mIoU"], abs=FLOAT32)
    assert np.mean(actual["box_acc"]) == pytest.approx(theirs["box_Acc"], abs=FLOAT32)


def _full_map(golden: Golden, number: int) -> np.ndarray:
    height, width = golden.meta["target_size"]
    heat = torch.from_numpy(golden.arrays[f"heat{number}"])[:, 0]
    return response.resize(heat, (height, width))[0].numpy()


def _score(golden: Golden) -> dict[str, list]:
    actual: dict[str, list] = {
        n: [] for n in ("I", "U", "hit", "hitm", "loc", "box_iou", "box_acc")
    }
    for number, box in enumerate(golden.arrays["boxes"]):
        full, truth = _full_map(golden, number), golden.arrays[f"target{number}"]
        mask = metrics.foreground(full)
        point = metrics.peak(metrics.normalize(full))
        overlap, accurate = score_boxes(find_boxes(mask), point, box)
        intersection, union = metrics.intersection_union(mask, truth)
        actual["I"].append(intersection)
        actual["U"].append(union)
        actual["hit"].append(metrics.is_in_boxes(point, [box]))
        actual["hitm"].append(metrics.is_in_mask(point, truth))
        actual["loc"].append(point)
        actual["box_iou"].append(overlap)
        actual["box_acc"].append(accurate)
    return actual
