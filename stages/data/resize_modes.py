"""How an image of any shape becomes the square that a model sees, and how maps go back.

`stretch` resizes both sides to the square and ignores the aspect ratio (TRIS, ReLA). `letterbox`
keeps the aspect ratio and pads the square (CRIS, ETRIS, DETRIS). A model names its mode
(`resize_mode`) and the value of its maps that means background (`background_value`), which fills
what lies outside of the square.
"""

from collections.abc import Callable
from dataclasses import dataclass

from PIL import Image
from torch import Tensor

from stages.config.section import ResizeModeName
from stages.data import letterbox
from stages.data import response_maps as response
from stages.data.images import DEVIATION, MEAN, normalize, square, square_mask
from stages.storage.masks import Mask

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_DEVIATION = (0.26862954, 0.26130258, 0.27577711)


@dataclass(frozen=True)
class ResizeMode:
    """Images (H, W) to squares (S, S), and maps (T, S, S) to masks' sizes (T, H, W)."""

    image: Callable[[Image.Image, int], Tensor]  # to uint8 (3, S, S)
    mask: Callable[[Mask, int], Tensor]  # to (S, S), 0 to 1
    restore: Callable[[Tensor, tuple[int, int], float], Tensor]  # maps, (H, W), background value
    mean: tuple[float, ...]
    deviation: tuple[float, ...]

    def normalize(self, images: Tensor) -> Tensor:
        """uint8 images (B, 3, S, S) as the model's numbers."""
        return normalize(images, self.mean, self.deviation)


def _stretch(maps: Tensor, shape: tuple[int, int], background_value: float) -> Tensor:
    return response.resize(maps, shape)


RESIZE_MODES: dict[ResizeModeName, ResizeMode] = {
    "stretch": ResizeMode(square, square_mask, _stretch, MEAN, DEVIATION),
    "letterbox": ResizeMode(
        letterbox.letterbox,
        letterbox.letterbox_mask,
        letterbox.restore,
        CLIP_MEAN,
        CLIP_DEVIATION,
    ),
}
