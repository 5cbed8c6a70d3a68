"""The judge: a frozen CLIP that scores what a response map keeps of an image.

Its scores train stage 1 and rank its maps (PRMS). As in the official code (train_stage1.py,
validate.py) images keep the normalization of the trained model, not CLIP's own.
"""

import torch.nn.functional as F
from torch import Tensor

from stages.backbones.clip import Clip, frozen, load_clip
from stages.backbones.clip_layers import ResidualNetwork, fold_norms
from stages.config.encoders import JudgeSource
from stages.data import response_maps as response


def load_judge(source: JudgeSource, pretrained: bool = True) -> Clip:
    """The frozen CLIP, whose `image_size` is that of the images it is to see.

    Raises InputError as `load_clip` does.
    """
    judge = frozen(load_clip(source, pretrained))
    if isinstance(judge.visual, ResidualNetwork):
        fold_norms(judge.visual)
    if source.image_size is not None:
        judge.residual.image_size = source.image_size  # its positions are interpolated
    return judge


def resize_images(judge: Clip, images: Tensor) -> Tensor:
    """Images (I, 3, S, S) at the size that the judge sees."""
    size = (judge.image_size, judge.image_size)
    if images.shape[2:] == size:
        return images
    return F.interpolate(images, size, mode="bilinear", align_corners=True)


def encode_masked(judge: Clip, images: Tensor, maps: Tensor) -> Tensor:
    """Unit features (P, E) of images (P, 3, J, J) of the judge's size, times maps (P, S, S)."""
    size = (images.shape[2], images.shape[3])
    masked = images * response.resize(maps, size)[:, None]
    return F.normalize(judge.encode_image(masked), dim=1)
