"""Confident labels of objects by dense CRF (Krahenbuhl and Koltun, 2011), as IRNet makes them.

Official step_refer/cam_to_ir_label.py builds the filter lattice of the image twice for each object.
The lattice depends on the image alone, so here it is built once and used with the unary potentials
of all passes over the image; the results are equal to the last bit.

pydensecrf is the reference. torch_crf.py gives the same labels on any device.

Shapes: P objects of an image of H x W pixels, C labelings of it.
"""

from collections.abc import Sequence
from importlib.util import find_spec

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from irnet.affinity import torch_crf
from irnet.affinity.images import Rgb
from irnet.affinity.pairs import BACKGROUND, FOREGROUND, IGNORE
from stages.config.section import CrfName
from stages.config.steps import Labels
from stages.runtime.errors import InputError
from stages.storage.masks import Mask

OBJECTS_FOR_TORCH = 2  # of an image: from here on torch is faster on a CPU (benchmarks/crf.py)


class DenseCrf:
    """The dense CRF of one image (H, W, 3), for any number of binary labelings of it."""

    def __init__(self, image: NDArray[np.uint8], config: Labels) -> None:
        try:  # imported here, because torch_crf alone can do without it
            import pydensecrf.densecrf as dcrf
        except ImportError as error:  # not installed on Python 3.13, where it does not compile
            message = f"the dense CRF: {error}; needed crf: torch, or Python 3.11 or 3.12"
            raise InputError(message) from None
        self.config = config
        self.height, self.width = image.shape[:2]
        self.field = dcrf.DenseCRF2D(self.width, self.height, 2)
        self.field.addPairwiseGaussian(sxy=config.gaussian_sxy, compat=config.gaussian_compat)
        self.field.addPairwiseBilateral(
            sxy=config.bilateral_sxy,
            srgb=config.bilateral_srgb,
            rgbim=np.ascontiguousarray(image),
            compat=config.bilateral_compat,
        )

    def refine(self, mask: Mask) -> Mask:
        """The labeling that best fits a rough mask (H, W) and the image."""
        self.field.setUnaryEnergy(self._unary(mask))
        scores = np.array(self.field.inference(self.config.iterations))  # (2, N)
        return (scores[1] > scores[0]).reshape(self.height, self.width)

    def _unary(self, mask: Mask) -> NDArray[np.float32]:
        """Negative log probabilities (2, N): each pixel's label is right with `certainty`."""
        agree, differ = -np.log(self.config.certainty), -np.log(1 - self.config.certainty)
        inside = mask.ravel()
        energies = [np.where(inside, differ, agree), np.where(inside, agree, differ)]
        return np.stack(energies).astype(np.float32)


def label_images(
    images: Sequence[Rgb],
    responses: Sequence[Tensor],
    config: Labels,
    device: torch.device,
    implementation: CrfName = "auto",
) -> list[Tensor]:
    """FOREGROUND, BACKGROUND or IGNORE (P, H, W) of the response maps (P, H, W) of each image.

    Maps are in [0, 1]. Foreground is the CRF's labeling of the response above the high threshold.
    Background is outside of its labeling above the low threshold. The rest is ignored.
    """
    thresholds = (config.foreground_threshold, config.background_threshold)
    rough = [torch.cat([maps > threshold for threshold in thresholds]) for maps in responses]
    if _choose(implementation, device, responses) == "torch":
        refined = torch_crf.refine(images, rough, config, device)
    else:
        refined = [
            _refine_by_pydensecrf(image, masks, config)
            for image, masks in zip(images, rough, strict=True)
        ]
    return [_labels(*masks.chunk(2)) for masks in refined]


def _choose(implementation: CrfName, device: torch.device, responses: Sequence[Tensor]) -> CrfName:
    if implementation != "auto":
        return implementation
    if find_spec("pydensecrf") is None:
        return "torch"
    objects = sum(len(maps) for maps in responses)
    is_faster = device.type != "cpu" or objects >= OBJECTS_FOR_TORCH * len(responses)
    return "torch" if is_faster else "pydensecrf"


def _refine_by_pydensecrf(image: Rgb, masks: Tensor, config: Labels) -> Tensor:
    crf = DenseCrf(image, config)
    refined = [torch.from_numpy(crf.refine(mask)) for mask in masks.cpu().numpy()]
    return torch.stack(refined)


def _labels(foreground: Tensor, possible: Tensor) -> Tensor:
    labels = torch.where(possible, IGNORE, BACKGROUND).to(torch.uint8)
    return torch.where(foreground, FOREGROUND, labels)
