"""Pairs of cells: their order, the affinity along their path, and their kinds."""

import torch

from irnet.affinity.losses import relation_losses
from irnet.affinity.pairs import (
    FOREGROUND,
    IGNORE,
    directions,
    pair_displacement,
    pair_labels,
    path_affinity,
)


def number_of(down, right, radius=3):
    ends = [(pair.down, pair.right) for pair in directions(radius)]
    return ends.index((down, right))


def test_each_pair_within_the_radius_is_there_once():
    ends = {(pair.down, pair.right) for pair in directions(4)}
    square = {(y, x) for y in range(-4, 5) for x in range(-4, 5) if 0 < y * y + x * x < 16}
    assert ends | {(-y, -x) for y, x in ends} == square
    assert len(ends) == len(directions(4)) == len(square) / 2


def test_affinity_is_one_minus_the_strongest_edge_on_the_way():
    edge = torch.zeros(1, 4, 7)
    edge[0, 0, 4] = 0.75
    affinity = path_affinity(edge, 3)
    assert affinity.shape == (1, 12, 2, 3)
    across, beside, down = number_of(0, 2), number_of(0, 1), number_of(1, 0)
    assert affinity[0, across, 0, 1] == 0.25  # from column 3 over 4 to 5
    assert affinity[0, beside, 0, 0] == 1.0  # from column 2 to 3
    assert affinity[0, down, 0, 2] == 0.25  # begins on the edge
    assert affinity[0, down, 1, 2] == 1.0


def test_displacement_of_a_pair_is_the_near_end_minus_the_far_end():
    field = torch.arange(2 * 4 * 7, dtype=torch.float32).view(1, 2, 4, 7)
    difference = pair_displacement(field, 3)
    assert (difference[:, :, number_of(0, 2)] == -2).all()
    assert (difference[:, :, number_of(2, -1)] == -13).all()


def test_pairs_with_an_ignored_end_have_no_kind():
    labels = torch.zeros(1, 4, 7, dtype=torch.long)
    labels[0, :, 3:] = FOREGROUND
    labels[0, :, 5:] = IGNORE
    kinds = pair_labels(labels, 3)
    beside = number_of(0, 1)  # near ends are columns 2, 3, 4
    assert kinds.background[0, beside, 0].tolist() == [False, False, False]
    assert kinds.different[0, beside, 0].tolist() == [True, False, False]
    assert kinds.foreground[0, beside, 0].tolist() == [False, True, False]
    assert kinds.background[0, number_of(1, 0), 0].tolist() == [True, False, False]


def test_labels_without_any_foreground_give_finite_losses_and_gradients():
    logits = torch.randn(2, 1, 12, 12, requires_grad=True)
    displacement = torch.randn(2, 2, 12, 12, requires_grad=True)
    losses = relation_losses(logits, displacement, torch.zeros(2, 12, 12, dtype=torch.long), 5)
    losses["loss"].backward()
    assert losses["affinity_foreground"] == 0
    assert losses["displacement_foreground"] == 0
    assert all(torch.isfinite(value) for value in losses.values())
    assert torch.isfinite(logits.grad).all()
    assert torch.isfinite(displacement.grad).all()
