"""Groups of failures and intervals, on cases that can be counted by hand."""

import numpy as np
import pytest

from stages.metrics.bootstrap import mean_interval
from stages.metrics.failures import Group, group, rival_pixels, shares

TARGET = "##......"  # 2 of 8 pixels; the neighbor is ....####
NEIGHBOR = "....####"


def row(text: str) -> np.ndarray:
    return np.array([[cell == "#" for cell in text]])


@pytest.mark.parametrize(
    ("prediction", "truth", "expected"),
    [
        ("##......", TARGET, "right"),
        ("###.....", TARGET, "right"),  # IoU 2/3
        ("####....", TARGET, "too_much"),  # IoU 1/2 is not above it
        ("#......#", TARGET, "too_little"),  # half is found, and one pixel of each is no more
        ("....####", TARGET, "wrong_object"),
        ("#...####", TARGET, "too_much"),  # half of the target is found: it was meant
        ("########", TARGET, "too_much"),
        ("...#....", TARGET, "nothing"),  # the background
        ("........", TARGET, "nothing"),
        ("#.......", "####....", "too_little"),
        (".......#", "####....", "wrong_object"),
        ("........", "........", "right"),  # no target, and said so
        ("#.......", "........", "too_much"),
    ],
)
def test_a_prediction_is_in_one_group(prediction: str, truth: str, expected: Group) -> None:
    mask, target = row(prediction), row(truth)
    others = row(NEIGHBOR)[None]
    assert group(mask, target, lambda: rival_pixels(mask, target, others)) == expected


def test_of_an_object_that_holds_the_target_only_the_rest_counts() -> None:
    whole, part = row("####...."), row("##......")
    assert rival_pixels(whole, part, whole[None]) == 2
    assert rival_pixels(part, part, whole[None]) == 0
    assert rival_pixels(whole, part, np.empty((0, 1, 8), dtype=bool)) == 0


def test_shares_name_every_group() -> None:
    actual = shares(["right", "right", "nothing", "too_much"])
    assert actual == {
        "right": 0.5,
        "wrong_object": 0,
        "too_much": 0.25,
        "too_little": 0,
        "nothing": 0.25,
    }


def test_two_images_are_drawn_twice_each_way() -> None:
    """AA, AB, BA, BB: of image A with one expression at 1, and B with three at 0."""
    values, images = [1, 0, 0, 0], [7, 9, 9, 9]
    low, high = mean_interval(values, images)
    assert (low, high) == (0, 1)  # a quarter of the draws each
    many = mean_interval([1, 0, 0, 0] * 25, [2 * i + b for i in range(25) for b in (0, 1, 1, 1)])
    assert 0 < many[0] < 0.25 < many[1] < 1


def test_equal_values_have_an_interval_of_no_width() -> None:
    assert mean_interval([0.25] * 6, range(6)) == (0.25, 0.25)


def test_an_interval_is_that_of_the_normal_approximation_where_there_are_many() -> None:
    """400 images, IoU 0 or 1: the deviation of their mean is sqrt(1/4 / 400) = 0.025."""
    low, high = mean_interval([0, 1] * 200, range(400))
    assert low == pytest.approx(0.5 - 1.96 * 0.025, abs=0.004)
    assert high == pytest.approx(0.5 + 1.96 * 0.025, abs=0.004)


def test_the_same_samples_give_the_same_interval() -> None:
    values = np.linspace(0, 1, 30) ** 2
    assert mean_interval(values, range(30)) == mean_interval(values, range(30))
    assert mean_interval(values, range(30)) != mean_interval(values, range(30), seed=1)


def test_expressions_of_one_image_count_as_one_draw() -> None:
    values = [0.0, 1.0] * 20
    alone = mean_interval(values, range(40))
    together = mean_interval(sorted(values), [i // 10 for i in range(40)])
    assert together[1] - together[0] > 2 * (alone[1] - alone[0])
