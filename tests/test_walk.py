"""The sparse random walk against the same walk with a dense matrix, cell by cell."""

import math

import pytest
import torch

from irnet.affinity.walk import random_walk


def dense_walk(scores, edge, radius, beta, steps):
    """Every pair of cells by itself: the definition, in float64."""
    height, width = edge.shape
    affinity = torch.eye(height * width, dtype=torch.float64)
    cells = [(y, x) for y in range(height) for x in range(width)]
    for first, (y, x) in enumerate(cells):
        for second, (v, u) in enumerate(cells):
            distance = math.hypot(v - y, u - x)
            if 0 < distance < radius:
                strongest = max(
                    edge[b, a].item()
                    for b in range(min(y, v), max(y, v) + 1)
                    for a in range(min(x, u), max(x, u) + 1)
                    if abs((v - y) * (a - x) - (u - x) * (b - y)) < distance
                )
                affinity[first, second] = (1 - strongest) ** beta
    step = affinity / affinity.sum(0, keepdim=True)
    rows = (scores * (1 - edge)).flatten(1).double()
    return (rows @ torch.linalg.matrix_power(step, steps)).view(scores.shape)


@pytest.mark.parametrize("size", [(7, 9), (3, 8), (1, 6), (6, 1)])
@pytest.mark.parametrize("radius", [2, 5])
def test_sparse_walk_equals_the_dense_walk(size, radius):
    draw = torch.Generator().manual_seed(1)
    edge = torch.rand(size, generator=draw) * 0.9
    scores = torch.rand((3, *size), generator=draw)
    ours = random_walk(scores[None], edge[None], radius, beta=4, steps=32)[0]
    expected = dense_walk(scores, edge, radius, beta=4, steps=32)
    assert (ours - expected).abs().max() <= 1e-5 * expected.max()


def test_rows_walk_independently():
    draw = torch.Generator().manual_seed(2)
    edge, scores = torch.rand((8, 8), generator=draw), torch.rand((4, 8, 8), generator=draw)
    together = random_walk(scores[None], edge[None], 5, 10, 64)[0]
    alone = torch.cat([random_walk(row[None, None], edge[None], 5, 10, 64)[0] for row in scores])
    torch.testing.assert_close(together, alone)


def test_images_walk_as_each_would_alone():
    draw = torch.Generator().manual_seed(3)
    edges, scores = torch.rand((3, 8, 7), generator=draw), torch.rand((3, 2, 8, 7), generator=draw)
    together = random_walk(scores, edges, 5, 10, 64)
    for own, edge, expected in zip(scores, edges, together, strict=True):
        assert torch.equal(random_walk(own[None], edge[None], 5, 10, 64)[0], expected)


def test_scores_do_not_cross_a_closed_edge():
    edge = torch.zeros(9, 9)
    edge[:, 4] = 1.0
    scores = torch.zeros(1, 9, 9)
    scores[0, 4, 1] = 1.0
    walked = random_walk(scores[None], edge[None], 5, 10, 256)[0]
    assert (walked[..., 5:] == 0).all()
    assert (walked[..., :4] > 0).all()


def test_no_rows_give_no_rows():
    none = random_walk(torch.zeros(2, 0, 5, 6), torch.rand(2, 5, 6), 5, 10, 8)
    assert none.shape == (2, 0, 5, 6)
