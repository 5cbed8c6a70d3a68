"""Votes of a segmentor for an object, by hand-computed values."""

import torch

from stages.vote import CELLS, count_votes, to_cells


def test_votes_are_the_share_of_the_expressions() -> None:
    masks = torch.tensor([[[1, 1, 0, 0]], [[1, 0, 0, 0]], [[0, 1, 1, 0]], [[1, 1, 0, 0]]]).float()
    votes, agreement = count_votes(masks)
    assert votes.tolist() == [[0.75, 0.75, 0.25, 0.0]]
    # inside 1.5 of 1.75 and 2 pixels; 0.75 of 1.75 and 1; 1 of 1.75 and 2
    expected = [1.5 / 2.25, 0.75 / 2.0, 1 / 2.75, 1.5 / 2.25]
    torch.testing.assert_close(agreement, torch.tensor(expected))


def test_a_cell_counts_the_share_of_it_that_is_inside() -> None:
    mask = torch.zeros(2 * CELLS, 4 * CELLS, dtype=torch.bool)
    mask[0, :2] = True
    cells = to_cells(mask)
    assert cells.shape == (CELLS, CELLS)
    assert cells[0, 0].item() == 0.25
    assert cells.sum().item() == 0.25
