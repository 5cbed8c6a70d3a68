"""Very large pictures are computed smaller, and what is found is enlarged again.

A picture is first reduced, if the network's grid of it would have more than MOST_CELLS cells: of
640 x 640 pixels or less it never has. So one picture takes no more memory than one of 6.5
megapixels (`input_scale` 1).
"""

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from irnet.affinity.images import Rgb, network_input, scaled
from irnet.affinity.network import AffinityNetwork
from irnet.affinity.responses import MappedImage, full_size
from stages.config.steps import CELL

MOST_CELLS = 640 * 640  # of the grid of a picture: a cell of the smallest kind is a pixel


def computed_shape(height: int, width: int, input_scale: int) -> tuple[int, int]:
    """The height and width that a picture is computed at: its own, but for very large ones."""
    cells = height * width * (input_scale / CELL) ** 2
    if cells <= MOST_CELLS:
        return height, width
    scale = math.sqrt(MOST_CELLS / cells)
    return scaled(height, scale), scaled(width, scale)


def predict_batch(
    network: AffinityNetwork,
    input_scale: int,
    images: Sequence[MappedImage],
    pixels: Sequence[Rgb],
) -> tuple[list[Tensor], Tensor, Tensor]:
    """Responses (P, H, W) of each of B images of one size, and the network's predictions of them.

    Edges (B, h, w) and displacements (B, 2, h, w). H x W is the size that the images are computed
    at.
    """
    device = next(network.parameters()).device
    own = (images[0].height, images[0].width)
    height, width = computed_shape(*own, input_scale)
    if (height, width) != own:
        size = (width, height)
        pixels = [np.asarray(Image.fromarray(p).resize(size, Image.Resampling.BOX)) for p in pixels]
    colors = torch.stack([network_input(image, input_scale, device) for image in pixels])
    edges, displacements = network.predict(colors)
    computed = [replace(image, height=height, width=width) for image in images]
    return [full_size(image, device) for image in computed], edges, displacements


def enlarged(mask: NDArray[np.bool_], shape: tuple[int, int]) -> NDArray[np.bool_]:
    """A mask at another size (H, W): the pixels that are more than half inside."""
    if mask.shape == shape:
        return mask
    soft = Image.fromarray(255 * mask.astype(np.uint8))
    resized = soft.resize((shape[1], shape[0]), Image.Resampling.BILINEAR)
    return np.asarray(resized) >= 128
