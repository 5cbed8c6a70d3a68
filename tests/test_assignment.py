"""Joint assignment of regions to objects, by hand-computed values."""

import math

import numpy as np
import pytest
import torch

from stages.config.steps import Assignment, AssignmentMethod, Candidates
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
    ("candidates", "count"),
    [
        ("masks", [3, 2]),
        ("parts", [2, 2]),
        ("both", [3, 2, 2]),
        ("regions", [4]),
        ("all", [3, 2, 2, 4]),
    ],
)
def test_candidates_are_masks_their_connected_parts_and_regions(
    candidates: Candidates, count: list[int]
) -> None:
    one = [[1, 1, 0, 1], [0, 0, 0, 0]]  # a part of two pixels, and one that is too small
    two = [[0, 0, 0, 0], [0, 1, 1, 0]]  # all of it is its one part
    masks = np.array([one, two, np.zeros((2, 4))], dtype=bool)
    small, large = np.eye(2, 4, dtype=bool)[:1].repeat(2, axis=0), np.ones((2, 4), dtype=bool)
    small[1], large[:, 2:] = False, False
    config = Assignment(method="greedy", candidates=candidates, least_area=0.25)
    regions = [small, large] if config.needs_regions else []
    assert [int(m.sum()) for m in find_candidates(masks, config, regions)] == count
    nothing = np.zeros((2, 2, 4), dtype=bool)
    assert find_candidates(nothing, config).shape == (2, 2, 4)


def test_small_masks_are_candidates_if_there_is_nothing_else_and_empty_ones_are_not() -> None:
    masks = np.zeros((3, 2, 4), dtype=bool)
    masks[0, 0, 0] = masks[2, 1, 3] = True
    config = Assignment(candidates="parts", least_area=0.5)
    assert np.array_equal(find_candidates(masks, config), masks[[0, 2]])


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
        ("greedy", [0, 2]),  # the first is more certain of what both want
        ("hungarian", [1, 0]),  # 0.39 x 0.55 is more than 0.60 x 0.23
    ],
)
def test_each_object_gets_a_candidate_of_its_own(
    method: AssignmentMethod, chosen: list[int]
) -> None:
    scores = np.log([[0.60, 0.39, 0.01], [0.55, 0.22, 0.23]])
    assert assign(scores, method) == chosen


def test_an_object_of_many_expressions_chooses_by_how_certain_it_is() -> None:
    """Five expressions, each 0.9 for the first candidate, before one that is 0.6 for it."""
    many, one = 5 * np.log([0.9, 0.1]), np.log([0.6, 0.4])
    assert assign(np.stack([many, one]), "greedy") == [0, 1]
    assert assign(np.stack([one, many]), "greedy") == [1, 0]


@pytest.mark.parametrize("method", ["greedy", "hungarian"])
def test_an_object_for_which_nothing_is_left_gets_none(method: AssignmentMethod) -> None:
    assert assign(np.array([[1.0], [2.0]]), method) == [NONE, 0]
    assert certainty(torch.tensor([[1.0], [2.0]]), [NONE, 0]) == [0.0, 1.0]


def test_a_choice_is_certain_by_its_share() -> None:
    shares = certainty(torch.log(torch.tensor([[0.3, 0.1], [0.5, 1.5]])), [0, 0])
    assert shares == pytest.approx([0.75, 0.25])
