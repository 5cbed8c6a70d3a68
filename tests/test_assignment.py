"""Joint assignment of regions to objects, by hand-computed values."""

import math
from typing import Literal

import numpy as np
import pytest
import torch

from stages.config.steps import Assignment, AssignmentMethod
from stages.models.assignment import (
    NONE,
    assign,
    certainty,
    distinct,
    evidence,
    find_candidates,
    overlaps,
    soft_overlaps,
)

MASKS = torch.tensor(
    [
        [[1, 1, 0, 0], [0, 0, 0, 0]],
        [[1, 1, 1, 0], [0, 0, 0, 0]],
        [[0, 0, 0, 0], [0, 0, 1, 1]],
    ]
).bool()


@pytest.mark.parametrize(
    ("candidates", "count"), [("masks", [3, 2]), ("parts", [2, 2]), ("both", [3, 2, 2])]
)
def test_candidates_are_masks_and_their_connected_parts(
    candidates: Literal["masks", "parts", "both"], count: list[int]
) -> None:
    one = [[1, 1, 0, 1], [0, 0, 0, 0]]  # a part of two pixels, and one that is too small
    two = [[0, 0, 0, 0], [0, 1, 1, 0]]  # all of it is its one part
    masks = np.array([one, two, np.zeros((2, 4))], dtype=bool)
    config = Assignment(candidates=candidates, least_area=0.25)
    assert [int(mask.sum()) for mask in find_candidates(masks, config)] == count
    nothing = np.zeros((2, 2, 4), dtype=bool)
    assert find_candidates(nothing, config).shape == (2, 2, 4)


def test_masks_overlap_by_their_iou() -> None:
    expected = [[1, 2 / 3, 0], [2 / 3, 1, 0], [0, 0, 1]]
    assert torch.allclose(overlaps(MASKS), torch.tensor(expected))
    assert overlaps(torch.zeros(1, 2, 2)).item() == 0


def test_a_response_overlaps_a_mask_by_what_it_has_inside() -> None:
    response = torch.tensor([[[1, 0.5, 0, 0], [0, 0, 0, 0.5]]])
    # inside 1.5, of 2 and 2 pixels: 1.5 / 2.5; inside 1.5 of 2 and 3; inside 0.5 of 2 and 2
    expected = [[1.5 / 2.5, 1.5 / 3.5, 0.5 / 3.5]]
    assert torch.allclose(soft_overlaps(response, MASKS), torch.tensor(expected))


def test_the_expressions_of_an_object_choose_together() -> None:
    views = torch.eye(2)
    texts = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]])
    scores = evidence(views, texts, [2, 1], scale=2.0)
    yes, no = 2 - math.log(math.exp(2) + 1), -math.log(math.exp(2) + 1)
    assert torch.allclose(scores, torch.tensor([[yes + no, no + yes], [yes, no]]))


def test_of_masks_of_one_region_the_best_is_kept() -> None:
    scores = torch.tensor([[-3.0, -1.0, -2.0], [-4.0, -5.0, -6.0]])
    assert distinct(scores, overlaps(MASKS), most=0.6) == [1, 2]
    assert distinct(scores, overlaps(MASKS), most=0.7) == [0, 1, 2]


@pytest.mark.parametrize(
    ("method", "chosen"),
    [
        ("greedy", [1, 0]),  # 9 first, then what is left: 9 + 1
        ("hungarian", [0, 1]),  # 8 + 7 is more
    ],
)
def test_each_object_gets_a_candidate_of_its_own(
    method: AssignmentMethod, chosen: list[int]
) -> None:
    scores = np.array([[8.0, 9.0], [1.0, 7.0]])
    assert assign(scores, method) == chosen


@pytest.mark.parametrize("method", ["greedy", "hungarian"])
def test_an_object_for_which_nothing_is_left_gets_none(method: AssignmentMethod) -> None:
    assert assign(np.array([[1.0], [2.0]]), method) == [NONE, 0]
    assert certainty(torch.tensor([[1.0], [2.0]]), [NONE, 0]) == [0.0, 1.0]


def test_a_choice_is_certain_by_its_share() -> None:
    shares = certainty(torch.log(torch.tensor([[0.3, 0.1], [0.5, 1.5]])), [0, 0])
    assert shares == pytest.approx([0.75, 0.25])
