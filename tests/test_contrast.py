"""Contrast within an image, by hand-computed values."""

import math

import pytest
import torch

from stages.models.contrast import contrast_loss, divergence

YES, NO = math.log(3), -math.log(3)  # probabilities 3/4 and 1/4
APART = 0.75 * math.log(3) - 0.25 * math.log(3)  # of 3/4 from 1/4, and the other way around


def test_the_divergence_is_that_of_yes_and_no() -> None:
    found = divergence(torch.tensor([YES, 0.0, YES]), torch.tensor([NO, 0.0, 0.0]))
    from_half = 0.75 * math.log(1.5) + 0.25 * math.log(0.5)
    assert found.tolist() == pytest.approx([APART, 0, from_half])


def test_maps_of_one_object_agree_and_those_of_others_differ() -> None:
    logits = torch.tensor([[YES, NO], [NO, NO], [YES, NO]])
    images, objects = torch.tensor([7, 7, 8]), torch.tensor([1, 1, 3])
    inside = torch.ones(3, 2).bool()
    same = contrast_loss(logits, inside, images, objects)
    assert same.item() == pytest.approx(APART / 2)  # one of two cells
    different = contrast_loss(logits, inside, images, torch.tensor([1, 2, 3]))
    assert different.item() == 1  # 0.1 times the divergence is less than 1


def test_different_objects_are_compared_where_one_of_them_is() -> None:
    sure = torch.tensor([[20.0, -20.0, 30.0], [-20.0, 20.0, -30.0]])
    inside = torch.tensor([[True, False, False], [False, True, False]])
    found = contrast_loss(sure, inside, torch.tensor([0, 0]), torch.tensor([1, 2]))
    assert found.item() == pytest.approx(1 / (0.1 * (20 + 20)))


def test_images_of_one_map_have_nothing_to_contrast() -> None:
    logits = torch.zeros(2, 3, requires_grad=True)
    found = contrast_loss(logits, logits > 0, torch.tensor([0, 1]), torch.tensor([0, 1]))
    found.backward()
    assert found.item() == 0
    assert logits.grad is not None and not logits.grad.any()
