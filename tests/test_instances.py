"""Instances from displacement fields, and pseudo masks from instances."""

import numpy as np
import pytest
import torch

from irnet.affinity.instances import find_instances, group_centers, refine_centers
from irnet.affinity.pseudo_masks import (
    Relations,
    assign,
    find_relations,
    pseudo_masks,
    split_fragments,
    strongest,
)
from stages.config.steps import Propagation


def two_objects(height=12, width=20):
    """A field whose left half points at (6, 4) and whose right half points at (6, 15)."""
    rows, columns = np.mgrid[:height, :width].astype(np.float32)
    center = np.where(columns < width // 2, 4, 15)
    return torch.from_numpy(np.stack([6 - rows, center - columns]).astype(np.float32))


def test_cells_that_point_at_one_center_are_one_instance():
    actual = find_instances(two_objects()[None], steps=300, threshold=2.5)[0]
    left, right = actual[:, :10], actual[:, 10:]
    assert len(np.unique(actual)) == 2
    assert (left == left[0, 0]).all()
    assert (right == right[0, 0]).all()


def test_a_field_that_rests_early_gives_the_centers_of_all_steps():
    field = 0.3 * two_objects()[None]
    np.testing.assert_array_equal(refine_centers(field, 300), refine_centers(field, 3000))


def test_cells_that_have_met_end_where_each_would_alone():
    generator = torch.Generator().manual_seed(0)
    fields = torch.stack([two_objects(), 3 * torch.randn(2, 12, 20, generator=generator)])
    each = [refine_centers(field[None], 300) for field in fields]  # follows them as one
    np.testing.assert_array_equal(refine_centers(fields, 300), torch.cat(each))


def test_centers_stay_inside_the_grid():
    centers = refine_centers(torch.full((1, 2, 5, 7), 4.0), steps=10)[0]
    assert (centers[0] == 4).all()
    assert (centers[1] == 6).all()


def test_centers_in_strong_displacement_form_one_instance():
    displacement = np.full((2, 3, 4), 9.0, np.float32)
    displacement[:, 0, 0] = 0
    centers = np.zeros((2, 3, 4), np.int64)
    centers[:, :, 2:] = 2
    instances = group_centers(centers, displacement, 2.5)
    assert instances.max() == 1
    assert (instances[:, :2] != instances[:, 2:]).all()


def test_rows_beyond_one_chunk_are_compared_as_all_at_once():
    rows = torch.rand(70, 5, 6, generator=torch.Generator().manual_seed(0))
    best, owner = strongest(rows, 2, (9, 11))
    large = torch.nn.functional.interpolate(rows[:, None], scale_factor=2, mode="bilinear")
    expected, which = large[:, 0, :9, :11].max(0)
    torch.testing.assert_close(best, expected)
    torch.testing.assert_close(owner, which)


def test_fragments_are_numbered_by_instance_and_small_ones_score_zero():
    owner = np.zeros((10, 30), np.int64)
    owner[0, 0] = 2  # one pixel of 300: below one percent is fewer than three
    owner[4:8, 2:8] = 2
    owner[4:8, 8:12] = 1
    relative = np.where(owner == 1, 0.5, 0.9).astype(np.float32)
    fragments = split_fragments(relative, owner)
    assert fragments.scores.tolist() == pytest.approx([0.5, 0, 0.9])
    assert (fragments.label > 0).sum() == (owner > 0).sum()
    assert fragments.label[4, 9] == 1
    assert fragments.label[0, 0] == 2


def test_a_response_of_zero_gives_an_empty_mask_and_leaves_the_others_alone():
    edge = torch.full((6, 8), 0.1)
    responses = torch.zeros(2, 24, 32)
    responses[1, 4:12, 4:12] = 1
    relations = Relations(edge, torch.zeros(6, 8, dtype=torch.long))
    config = Propagation(steps=4)
    ((empty, other),) = pseudo_masks([responses], [relations], 4, config)
    assert not empty.mask.any() and empty.score == 0
    ((alone,),) = pseudo_masks([responses[1:]], [relations], 4, config)
    assert other.mask.any() and other.score == 1
    np.testing.assert_array_equal(other.mask, alone.mask)
    official = Propagation(steps=4, empty_response="whole_image")
    ((whole, same),) = pseudo_masks([responses], [relations], 4, official)
    assert whole.mask.all() and whole.score == 0
    np.testing.assert_array_equal(same.mask, alone.mask)


def test_rows_without_any_score_are_foreground_as_in_the_official_code():
    _, owner = assign(*strongest(torch.zeros(3, 6, 8), 4, (24, 32)), 0.25)
    assert (owner == 1).all()


def test_without_instances_the_whole_image_is_one():
    (relations,) = find_relations(
        torch.rand(1, 12, 20), two_objects()[None], Propagation(instances=False)
    )
    assert (relations.instances == 0).all()


def test_fields_of_several_images_give_the_instances_of_each_alone():
    draw = torch.Generator().manual_seed(4)
    fields = torch.stack(
        [two_objects(), 0.3 * two_objects(), torch.randn(2, 12, 20, generator=draw)]
    )
    together = find_instances(fields, steps=300, threshold=2.5)
    for field, instances in zip(fields, together, strict=True):
        np.testing.assert_array_equal(
            instances, find_instances(field[None], steps=300, threshold=2.5)[0]
        )
