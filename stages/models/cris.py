"""CRIS (Wang et al., CLIP-Driven Referring Image Segmentation, CVPR 2022).

The expression scales CLIP's last feature map, a feature pyramid joins it with the two maps before
it, and the decoder of stages/models/layers.py follows. Attribute names are those of the official
checkpoints (model/segmenter.py, model/layers.py). Departures: maps of any stride are joined at the
size of the middle one; a batch of one expression is normalized with the running statistics, where
the official code fails.

Shapes: I images, T expressions, C channels, E embedding, h x w cells.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stages.backbones.clip import Clip, load_clip
from stages.backbones.clip_dense import make_dense
from stages.config.segmentors import CrisOptions
from stages.models.groups import is_clip_without_positions
from stages.models.layers import Decoder, Projector, QuerySegmentor, convolution, placed, resize


class CrisSegmentor(QuerySegmentor):
    """CLIP's residual network and text transformer, both trained."""

    def __init__(self, config: CrisOptions, clip: Clip) -> None:
        super().__init__()
        self.config = config
        _, second, third, _ = clip.channels
        make_dense(clip, config.image_size)
        self.backbone = clip
        self.neck = Pyramid((second, third, clip.embedding), config)
        self.decoder = Decoder(config, clip.text_width)
        self.proj = Projector(clip.embedding, config.channels)

    def fuse(self, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """Queries (T, C, h, w), words (T, L, D) and expressions (T, E)."""
        _, fine, middle, last = self.backbone.stages(batch["images"])
        maps = [fine, middle, self.backbone.residual.attnpool(last)]
        words, expressions = self.backbone.encode_text(batch["tokens"])
        return self.neck(maps, expressions, batch["image_index"]), words, expressions

    def is_backbone(self, name: str) -> bool:
        """CLIP without its positions, which learn at the rate of the rest, as published."""
        return is_clip_without_positions(name)


def build_cris(config: CrisOptions, pretrained: bool = True) -> CrisSegmentor:
    """With the published weights of its encoders if `pretrained`."""
    return CrisSegmentor(config, load_clip(config.clip, pretrained))


class Pyramid(nn.Module):
    """Three maps of falling resolution and an expression joined at the middle one's (FPN)."""

    def __init__(self, inputs: tuple[int, int, int], config: CrisOptions) -> None:
        super().__init__()
        fine, middle, coarse = config.channels // 2, config.channels, 2 * config.channels
        self.txt_proj = nn.Sequential(
            nn.Linear(inputs[2], coarse, bias=False), ExpressionNorm(coarse), nn.ReLU()
        )
        self.f1_v_proj = convolution(inputs[2], coarse)
        self.norm_layer = nn.Sequential(nn.BatchNorm2d(coarse), nn.ReLU())
        self.f2_v_proj = convolution(inputs[1], middle, kernel=3)
        self.f2_cat = convolution(coarse + middle, middle)
        self.f3_v_proj = convolution(inputs[0], fine, kernel=3)
        self.f3_cat = convolution(fine + middle, middle)
        self.f4_proj5 = convolution(coarse, middle, kernel=3)
        self.f4_proj4 = convolution(middle, middle, kernel=3)
        self.f4_proj3 = convolution(middle, middle, kernel=3)
        self.aggr = convolution(3 * middle, middle)
        self.coordconv = placed(middle)

    def forward(self, maps: list[Tensor], expressions: Tensor, image_index: Tensor) -> Tensor:
        """Maps (I, C_k, h_k, w_k) of images, expressions (T, E): queries (T, C, h, w)."""
        height, width = maps[1].shape[2:]
        size = (height, width)
        fine = F.adaptive_avg_pool2d(self.f3_v_proj(maps[0]), size)[image_index]
        middle = self.f2_v_proj(maps[1])[image_index]
        state = self.txt_proj(expressions)[:, :, None, None]
        coarse = self.norm_layer(self.f1_v_proj(maps[2])[image_index] * state)
        middle = self.f2_cat(torch.cat([middle, resize(coarse, size)], dim=1))
        fine = self.f3_cat(torch.cat([fine, middle], dim=1))
        parts = [self.f4_proj3(fine), self.f4_proj4(middle), resize(self.f4_proj5(coarse), size)]
        return self.coordconv(self.aggr(torch.cat(parts, dim=1)))


class ExpressionNorm(nn.BatchNorm1d):
    """Batch norm that uses the running statistics if there is only a single expression."""

    def forward(self, features: Tensor) -> Tensor:
        if self.training and len(features) == 1:
            mean, variance = self.running_mean, self.running_var
            return F.batch_norm(features, mean, variance, self.weight, self.bias, eps=self.eps)
        return super().forward(features)
