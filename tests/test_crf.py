"""Confident labels by dense CRF."""

import sys

import numpy as np
import pytest
import torch

from irnet.affinity.crf import DenseCrf, label_images
from irnet.affinity.pairs import BACKGROUND, FOREGROUND, IGNORE
from stages.config.steps import Labels
from stages.runtime.errors import InputError

dcrf = pytest.importorskip("pydensecrf.densecrf", reason="not on Python 3.13")


def picture(seed=0, height=48, width=56):
    """A bright disc on a noisy dark ground, and the disc."""
    rows, columns = np.mgrid[:height, :width]
    disc = (rows - 24) ** 2 + (columns - 30) ** 2 < 12**2
    noise = np.random.default_rng(seed).normal(0, 6, (height, width, 3))
    image = np.where(disc[..., None], 190, 60) + noise
    return image.clip(0, 255).astype(np.uint8), disc


def confident_labels(image, response, config):
    """The labels (H, W) of one response map of an image."""
    maps = torch.from_numpy(response)[None]
    (labels,) = label_images([image], [maps], config, torch.device("cpu"), "pydensecrf")
    return labels[0].numpy()


def refine_alone(image, mask, config):
    """The same by pydensecrf's own calls, with a lattice of its own."""
    height, width = mask.shape
    field = dcrf.DenseCRF2D(width, height, 2)
    right, wrong = -np.log(config.certainty), -np.log(1 - config.certainty)
    unary = np.where(mask.ravel() == np.array([[False], [True]]), right, wrong)
    field.setUnaryEnergy(unary.astype(np.float32))
    field.addPairwiseGaussian(sxy=config.gaussian_sxy, compat=config.gaussian_compat)
    field.addPairwiseBilateral(
        sxy=config.bilateral_sxy,
        srgb=config.bilateral_srgb,
        rgbim=image,
        compat=config.bilateral_compat,
    )
    return np.argmax(np.array(field.inference(config.iterations)), axis=0).reshape(mask.shape) == 1


def test_one_lattice_for_many_masks_equals_a_lattice_for_each():
    image, _ = picture()
    config = Labels(bilateral_sxy=10)
    shared = DenseCrf(image, config)
    draw = np.random.default_rng(1)
    for share in (0.2, 0.5, 0.8, 0.2):
        mask = draw.random(image.shape[:2]) < share
        np.testing.assert_array_equal(shared.refine(mask), refine_alone(image, mask, config))


def test_labels_follow_the_image_and_not_the_rough_response():
    image, disc = picture()
    rows, columns = np.mgrid[:48, :56]
    response = np.exp(-((rows - 24) ** 2 + (columns - 27) ** 2) / 150).astype(np.float32)
    labels = confident_labels(image, response, Labels(bilateral_sxy=10))
    assert ((labels == FOREGROUND) == disc).mean() > 0.98
    assert (labels[~disc] != FOREGROUND).mean() > 0.98
    assert set(np.unique(labels)) <= {BACKGROUND, FOREGROUND, IGNORE}


def test_a_response_of_zero_is_background_everywhere():
    image, _ = picture()
    labels = confident_labels(image, np.zeros((48, 56), np.float32), Labels())
    assert (labels == BACKGROUND).all()


def test_where_the_crf_is_not_installed_one_line_tells_which_python_has_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "pydensecrf.densecrf", None)
    with pytest.raises(
        InputError, match=r"^the dense CRF: .*; needed crf: torch, or Python 3\.11 or 3\.12$"
    ):
        DenseCrf(picture()[0], Labels())
