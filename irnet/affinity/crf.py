"""Confident labels of an object by dense CRF (Krahenbuhl and Koltun, 2011), as IRNet makes them.

Official step_refer/cam_to_ir_label.py builds the filter lattice of the image twice for each object.
The lattice depends on the image alone, so here it is built once and used with the unary potentials
of all passes over the image; the results are equal to the last bit.
"""

import numpy as np
from numpy.typing import NDArray

from irnet.affinity.pairs import BACKGROUND, FOREGROUND, IGNORE
from stages.config.steps import Labels
from stages.runtime.errors import InputError
from stages.storage.masks import Mask


class DenseCrf:
    """The dense CRF of one image (H, W, 3), for any number of binary labelings of it."""

    def __init__(self, image: NDArray[np.uint8], config: Labels) -> None:
        try:
            import pydensecrf.densecrf as dcrf
        except ImportError as error:  # not installed on Python 3.13, where it does not compile
            raise InputError(f"the dense CRF: {error}; needed Python 3.11 or 3.12") from None
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


def confident_labels(response: NDArray[np.float32], crf: DenseCrf) -> NDArray[np.uint8]:
    """FOREGROUND, BACKGROUND or IGNORE of each pixel of a response map (H, W) in [0, 1].

    Foreground is the CRF's labeling of the response above the high threshold. Background is
    outside of its labeling above the low threshold. The rest is ignored.
    """
    foreground = crf.refine(response > crf.config.foreground_threshold)
    possible = crf.refine(response > crf.config.background_threshold)
    labels = np.where(possible, IGNORE, BACKGROUND).astype(np.uint8)
    labels[foreground] = FOREGROUND
    return labels
