"""Regions of an image that are of no object: by hand on small grids, then by the step."""

import numpy as np
import torch

from irnet.affinity.pseudo_masks import on_grid
from irnet.affinity.regions import basins, find_regions
from stages.config.steps import Propagation

CONFIG = Propagation(radius=3, steps=16)
SIDE = 16  # cells


def bumps(*centers: tuple[int, int], height: float = 1.0) -> torch.Tensor:
    """A response (SIDE, SIDE) with a peak at each center that falls to 0 three cells away."""
    rows, columns = torch.meshgrid(torch.arange(SIDE), torch.arange(SIDE), indexing="ij")
    parts = [1 - ((rows - y) ** 2 + (columns - x) ** 2).sqrt() / 3 for y, x in centers]
    return height * torch.stack(parts).amax(dim=0).relu()


def wall() -> torch.Tensor:
    """Edges (SIDE, SIDE) between the left and the right half."""
    edges = torch.zeros(SIDE, SIDE)
    edges[:, 7:9] = 1
    return edges


def test_the_strongest_response_is_of_any_object() -> None:
    responses = torch.stack([bumps((3, 3)), bumps((3, 12), height=0.5)])
    joined = on_grid(responses, (SIDE, SIDE)).amax(dim=0)
    assert joined[3, 3] == 1 and joined[3, 12] == 0.5
    assert on_grid(torch.ones(2, 8, 8), (4, 6)).amax(dim=0).shape == (4, 6)


def test_a_response_has_a_basin_around_each_peak() -> None:
    found = basins(bumps((3, 3), (3, 12)).numpy())
    assert set(np.unique(found)) == {1, 2}
    assert found[3, 3] != found[3, 12]
    assert (found[:, :5] == found[3, 3]).all() and (found[:, 11:] == found[3, 12]).all()


def test_peaks_that_are_low_or_close_have_no_basin_of_their_own() -> None:
    assert basins(bumps((3, 3), (3, 6)).numpy()).max() == 1
    assert not basins(bumps((3, 3), height=0.2).numpy()).any()
    assert not basins(np.zeros((SIDE, SIDE), np.float32)).any()


def test_each_basin_spreads_up_to_the_edges() -> None:
    """One object's response is on both shapes: its mask would be both, the regions are each."""
    responses = bumps((8, 3), (8, 12))[None]
    left, right = find_regions([responses], wall()[None], 1, CONFIG)[0]
    if left[8, 12]:
        left, right = right, left
    assert left[8, 3] and right[8, 12]
    assert not left[:, 8:].any() and not right[:, :8].any()


def test_a_weak_neighbor_has_a_region_by_its_own_maximum() -> None:
    """Under the threshold of a pseudo mask, 0.25 of the highest score."""
    strong, weak = bumps((8, 3)), bumps((8, 12), height=0.22)
    found = list(find_regions([(strong + weak)[None]], wall()[None], 1, CONFIG)[0])
    assert [bool(mask[8, 3]) for mask in found] != [bool(mask[8, 12]) for mask in found]
    assert len(found) == 2 and sum(bool(mask[8, 12]) for mask in found) == 1


def test_images_together_have_the_regions_of_each_alone_at_their_own_size() -> None:
    images = [bumps((8, 3), (8, 12))[None], torch.zeros(2, SIDE, SIDE), bumps((4, 4))[None]]
    large = [torch.nn.functional.interpolate(i[None], size=(30, 32))[0] for i in images]
    edges = torch.stack([wall(), wall(), torch.zeros(SIDE, SIDE)])
    together = [list(masks) for masks in find_regions(large, edges, 2, CONFIG)]
    assert [len(masks) for masks in together] == [2, 0, 1]
    for number, masks in enumerate(together):
        one = slice(number, number + 1)
        (alone,) = find_regions(large[one], edges[one], 2, CONFIG)
        for ours, theirs in zip(masks, alone, strict=True):
            assert ours.shape == (30, 32)
            assert np.array_equal(ours, theirs)
