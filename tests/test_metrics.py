"""Metrics on cases that can be counted by hand."""

import math

import numpy as np
import pytest

from stages.metrics import iou as metrics
from stages.metrics.boxes import NO_BOX, box_iou, find_boxes, score_boxes
from stages.metrics.iou import score, summarize


def mask(*rows: str) -> np.ndarray:
    return np.array([[cell == "#" for cell in row] for row in rows])


EMPTY = mask("....", "....")
FULL = mask("####", "####")
HALF = mask("##..", "##..")


def test_overall_iou_pools_pixels_and_mean_iou_pools_samples() -> None:
    small = (mask("##..", "...."), mask("#...", "...."))  # prediction, truth: 1 of 2
    scores = score([small, (FULL, FULL)])  # and 8 of 8
    assert scores.overall_iou == pytest.approx(9 / 10)
    assert scores.mean_iou == pytest.approx((1 / 2 + 1) / 2)
    assert scores.num_samples == 2


def test_nothing_predicted_where_nothing_is_counts_as_right() -> None:
    assert score([(EMPTY, EMPTY)]).mean_iou == 1
    assert score([(EMPTY, EMPTY), (HALF, FULL)]).mean_iou == pytest.approx(0.75)
    assert score([(EMPTY, EMPTY), (HALF, FULL)]).overall_iou == pytest.approx(0.5)


def test_the_official_iou_of_two_empty_masks_is_not_a_number() -> None:
    assert math.isnan(summarize([0], [0], empty=math.nan).mean_iou)


@pytest.mark.parametrize("pair", [(EMPTY, HALF), (HALF, EMPTY)], ids=["prediction", "truth"])
def test_one_empty_mask_scores_nothing(pair: tuple[np.ndarray, np.ndarray]) -> None:
    assert score([pair]).mean_iou == 0


def test_precision_counts_the_samples_above_a_threshold() -> None:
    scores = summarize([5, 6, 9, 10], [10, 10, 10, 10])
    assert scores.precision == {0.5: 0.75, 0.6: 0.5, 0.7: 0.5, 0.8: 0.5, 0.9: 0.25}


def test_masks_of_two_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match="needed one shape"):
        score([(FULL, FULL[:1])])


def test_no_sample_at_all_is_refused() -> None:
    with pytest.raises(ValueError, match="needed at least one"):
        score([])


def test_hits_are_shares_and_absent_where_not_counted() -> None:
    scores = summarize([1, 1], [1, 1], in_box=[True, False], in_mask=[True, True])
    assert (scores.pointing_accuracy, scores.pointing_accuracy_mask) == (0.5, 1.0)
    assert summarize([1], [1]).pointing_accuracy is None


def test_the_peak_is_the_first_of_the_highest_points() -> None:
    response = np.array([[0, 3, 1], [3, 0, 0]], np.float32)
    assert metrics.peak(response) == (0, 1)
    assert metrics.peak(np.zeros((2, 2), np.float32)) == (0, 0)


def test_a_point_on_the_border_of_a_box_hits_it() -> None:
    boxes = [(4, 5, 6, 9), (0, 0, 1, 1)]  # x1 y1 x2 y2
    assert metrics.is_in_boxes((9, 6), boxes)
    assert metrics.is_in_boxes((0, 1), boxes)
    assert not metrics.is_in_boxes((6, 9), boxes)
    assert not metrics.is_in_boxes((10, 6), boxes)


def test_a_point_hits_the_truth_it_is_in() -> None:
    assert metrics.is_in_mask((1, 0), HALF)
    assert not metrics.is_in_mask((0, 2), HALF)


def test_the_foreground_is_every_positive_response() -> None:
    response = np.array([[0.0, 1e-3], [-2.0, 5.0]], np.float32)
    assert metrics.foreground(response).tolist() == [[False, True], [False, True]]
    assert not metrics.foreground(np.zeros((2, 2), np.float32)).any()


def test_a_map_of_negative_responses_alone_is_officially_all_foreground() -> None:
    assert metrics.foreground(np.full((2, 2), -1, np.float32)).all()


def test_a_filled_rectangle_is_its_own_box() -> None:
    actual = find_boxes(mask("......", ".###..", ".###..", "......"))
    assert actual == [(1, 1, 4, 3, 1)]


def test_a_mask_of_one_value_has_no_box() -> None:
    assert find_boxes(EMPTY) == [NO_BOX]
    assert find_boxes(FULL) == [NO_BOX]


def test_diagonal_neighbors_are_one_part_and_a_hole_has_a_box_of_the_pixels_around_it() -> None:
    assert find_boxes(mask("#...", ".#..", "....")) == [(0, 0, 2, 2, 0.5)]
    ring = mask("#####.", "#...#.", "#...#.", "#...#.", "#####.")
    assert find_boxes(ring) == [pytest.approx((0, 0, 5, 5, 16 / 25))]  # both have the same


def test_boxes_of_less_than_half_the_best_confidence_are_dropped() -> None:
    thin = mask("###.......", "###......#", "........#.", ".......#..", "......#...", "..........")
    assert find_boxes(thin) == [(0, 0, 3, 2, 1)]  # the diagonal fills a quarter of its box


def test_the_box_with_the_peak_is_compared_and_any_box_may_be_accurate() -> None:
    boxes = find_boxes(mask("##....", "##....", "....##", "....##"))
    truth = (0, 0, 2, 2)
    assert score_boxes(boxes, (3, 5), truth) == (0, True)
    assert score_boxes(boxes, (0, 0), truth) == (1, True)
    assert score_boxes(boxes, (0, 0), (10, 10, 12, 12)) == (0, False)


def test_the_iou_of_boxes_is_that_of_their_areas() -> None:
    assert box_iou((0, 0, 2, 2), (1, 0, 3, 2)) == pytest.approx(2 / 6)
    assert box_iou((0, 0, 1, 1), (2, 2, 3, 3)) == 0
