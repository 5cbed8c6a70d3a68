"""The dense CRF in torch against pydensecrf, label by label."""

import importlib.util
import subprocess
import sys

import numpy as np
import pytest
import skimage.data
import torch
from PIL import Image

from irnet.affinity import crf, lattice, torch_crf
from irnet.affinity.crf import DenseCrf, label_images
from irnet.affinity.torch_crf import refine
from stages.config.datasets import RefShapes
from stages.config.steps import Labels
from stages.make_refshapes import draw_split
from stages.runtime.errors import InputError
from tests.conftest import ROOT

CPU = torch.device("cpu")
PHOTOGRAPHS = (
    "astronaut",
    "chelsea",
    "coffee",
)  # of scikit-image itself; public domain, CC0


def photograph(name: str, width: int = 256, height: int = 192) -> np.ndarray:
    full = Image.fromarray(getattr(skimage.data, name)())
    return np.array(full.resize((width, height), Image.Resampling.BICUBIC))


def rough(seed: int, count: int, height: int, width: int) -> np.ndarray:
    """Discs (count, H, W) with ragged edges, as thresholded response maps are."""
    random = np.random.default_rng(seed)
    rows, columns = np.mgrid[:height, :width]
    masks = []
    for _ in range(count):
        y, x = random.uniform(0.2, 0.8) * height, random.uniform(0.2, 0.8) * width
        radius = random.uniform(0.1, 0.4) * max(height, width)
        noise = random.normal(0, 0.05 * radius, (height, width))
        masks.append(np.hypot(rows - y, columns - x) + noise < radius)
    return np.stack(masks)


def different(image: np.ndarray, masks: np.ndarray, config: Labels) -> int:
    """How many pixels of all labelings differ between the two."""
    pytest.importorskip("pydensecrf", reason="not on Python 3.13")
    reference = DenseCrf(image, config)
    expected = np.stack([reference.refine(mask) for mask in masks])
    (ours,) = refine([image], [torch.from_numpy(masks)], config, CPU)
    assert expected.any()  # else there is nothing to compare
    return int((ours.numpy() != expected).sum())


@pytest.mark.parametrize("name", PHOTOGRAPHS)
def test_labels_of_photographs_are_those_of_pydensecrf(name: str) -> None:
    image = photograph(name)
    assert different(image, rough(1, 4, *image.shape[:2]), Labels()) == 0


def test_labels_of_generated_pictures_are_those_of_pydensecrf() -> None:
    for seed, (_, _, image) in enumerate(draw_split(RefShapes(), "train", 6)):
        assert different(image, rough(seed, 4, *image.shape[:2]), Labels(bilateral_sxy=10)) == 0


@pytest.mark.parametrize("size", [(64, 80), (33, 47), (1, 90), (90, 1), (1, 1), (2, 3)])
def test_labels_of_noise_of_any_size_are_those_of_pydensecrf(size: tuple[int, int]) -> None:
    image = np.random.default_rng(3).integers(0, 256, (*size, 3), np.uint8)
    masks = np.concatenate([rough(4, 3, *size), np.ones((1, *size), bool)])
    assert different(image, masks, Labels()) == 0


@pytest.mark.parametrize("color", [0, 127, 255])
def test_labels_of_one_color_are_those_of_pydensecrf(color: int) -> None:
    image = np.full((60, 70, 3), color, np.uint8)
    assert different(image, rough(5, 4, 60, 70), Labels(bilateral_sxy=5)) == 0


@pytest.mark.parametrize(
    "options",
    [
        {"iterations": 1},
        {"certainty": 0.5},
        {"bilateral_srgb": 1.3, "bilateral_sxy": 7.7},
        {"gaussian_sxy": 0.9, "gaussian_compat": 1.5, "bilateral_compat": 4.0},
    ],
)
def test_options_mean_the_same_in_both(options: dict[str, float]) -> None:
    image = photograph("coffee", 96, 72)
    config = Labels.model_validate(options)
    masks = np.concatenate([rough(6, 3, 72, 96), np.ones((1, 72, 96), bool)])
    pytest.importorskip("pydensecrf", reason="not on Python 3.13")
    reference = DenseCrf(image, config)
    expected = np.stack([reference.refine(mask) for mask in masks])
    (ours,) = refine([image], [torch.from_numpy(masks)], config, CPU)
    np.testing.assert_array_equal(ours.numpy(), expected)


def test_images_of_a_batch_are_labeled_as_each_alone() -> None:
    images = [photograph("astronaut", 90, 70), photograph("coffee", 64, 64)]
    images.append(np.full((20, 31, 3), 80, np.uint8))
    masks = [
        torch.from_numpy(rough(seed, count, *image.shape[:2]))
        for seed, (count, image) in enumerate(zip((2, 5, 1), images, strict=True))
    ]
    together = refine(images, masks, Labels(), CPU)
    for image, mask, labeled in zip(images, masks, together, strict=True):
        (alone,) = refine([image], [mask], Labels(), CPU)
        assert torch.equal(labeled, alone)


def test_labelings_and_pixels_in_parts_are_labeled_as_all_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    image, masks = photograph("chelsea", 96, 72), torch.from_numpy(rough(7, 5, 72, 96))
    expected = refine([image], [masks], Labels(), CPU)
    monkeypatch.setitem(torch_crf.VALUES_AT_ONCE, "cpu", 2 * 96 * 72 + 5)  # two labelings
    monkeypatch.setattr(lattice, "PIXELS_AT_ONCE", 1000)
    torch_crf._spatial.cache_clear()
    assert torch.equal(refine([image], [masks], Labels(), CPU)[0], expected[0])


def test_a_deviation_too_small_for_the_lattice_is_refused_with_the_remedy() -> None:
    image = np.zeros((40, 40, 3), np.uint8)
    with pytest.raises(InputError, match="needed larger deviations"):
        refine([image], [torch.ones(1, 40, 40)], Labels(bilateral_srgb=0.001), CPU)


def test_both_implementations_give_the_same_confident_labels() -> None:
    images = [photograph("astronaut", 96, 72), photograph("coffee", 64, 64)]
    responses = [
        torch.from_numpy(rough(seed, 2, *image.shape[:2])).float()
        * torch.linspace(0.15, 1, image.shape[1])
        for seed, image in enumerate(images)
    ]
    config = Labels(foreground_threshold=0.6, bilateral_sxy=5)
    ours = label_images(images, responses, config, CPU, "torch")
    pytest.importorskip("pydensecrf", reason="not on Python 3.13")
    reference = label_images(images, responses, config, CPU, "pydensecrf")
    for labels, expected in zip(ours, reference, strict=True):
        assert torch.equal(labels, expected)
        assert set(labels.unique().tolist()) == {0, 1, 255}


def test_auto_is_torch_on_a_gpu_and_for_several_objects_of_an_image() -> None:
    single, several = torch.zeros(1, 4, 4), torch.zeros(2, 4, 4)
    assert crf._choose("auto", torch.device("cuda"), [single]) == "torch"
    assert crf._choose("auto", CPU, [several]) == "torch"
    is_there = importlib.util.find_spec("pydensecrf") is not None
    assert crf._choose("auto", CPU, [single]) == ("pydensecrf" if is_there else "torch")
    assert crf._choose("torch", CPU, [single]) == "torch"
    assert crf._choose("pydensecrf", torch.device("cuda"), [several]) == "pydensecrf"


LARGE = """
import resource, torch
from irnet.affinity.torch_crf import BYTES_PER_PIXEL, VALUES_AT_ONCE, refine
from stages.config.steps import Labels
from tests.test_torch_crf import CPU, different, photograph, rough
torch.set_num_threads(1)
peak = lambda: 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
image = photograph("astronaut", 1600, 1200)
masks = rough(8, 10, 1200, 1600)
small = photograph("astronaut", 64, 48)
refine([small], [torch.from_numpy(rough(8, 1, 48, 64))], Labels(), CPU)
before = peak()
(ours,) = refine([image], [torch.from_numpy(masks)], Labels(), CPU)
allowed = BYTES_PER_PIXEL * 1600 * 1200 + 24 * VALUES_AT_ONCE["cpu"]
assert peak() - before < allowed, (peak() - before, allowed)
assert different(image, masks[:1], Labels()) == 0
"""


@pytest.mark.slow
def test_a_large_picture_stays_within_the_memory_that_is_stated_for_it() -> None:
    done = subprocess.run([sys.executable, "-c", LARGE], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
