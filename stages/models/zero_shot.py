"""Zero-shot CLIP: response maps from frozen features.

Dense features as in MaskCLIP (Zhou et al., ECCV 2022): the value and output projections of the
pooling attention at every cell. The mean over the image is subtracted, so that positive means "more
than elsewhere in this image".
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stages.backbones.clip import Clip
from stages.data import response_maps as response


class ZeroShot(nn.Module):
    """Response maps of a CLIP without any training."""

    resize_mode, background_value = "stretch", 0.0

    def __init__(self, clip: Clip) -> None:
        super().__init__()
        self.clip = clip

    def predict(self, batch: dict[str, Tensor]) -> Tensor:
        """Maps (T, S, S), zero outside the mask, of images (I, 3, S, S) and tokens (T, L)."""
        images = batch["images"]
        pool = self.clip.residual.attnpool
        cells = self.clip.stages(images)[-1].permute(0, 2, 3, 1)  # (I, h, w, C)
        cells = F.normalize(pool.c_proj(pool.v_proj(cells)), dim=-1)  # (I, h, w, E)
        texts = F.normalize(self.clip.encode_text(batch["tokens"])[1], dim=-1)
        grids = torch.einsum("thwe,te->thw", cells[batch["image_index"]], texts)
        grids = grids - grids.mean(dim=(1, 2), keepdim=True)
        return response.upsample(grids, (images.shape[2], images.shape[3])).relu()
