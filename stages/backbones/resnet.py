"""ResNet-50 (He et al., CVPR 2016) with frozen batch norms as image features of four scales.

The layers are torchvision's. detectron2, whose ResNet official GRES/ReLA uses, computes the same
under other names, which `torchvision_name` translates.

Shapes: B images of H x W pixels, C channels.
"""

import re
from pathlib import Path

from torch import Tensor, nn
from torchvision.models.resnet import Bottleneck, ResNet
from torchvision.ops import FrozenBatchNorm2d

from stages.storage.matching import load_exactly
from stages.storage.weights import read_published

BLOCKS = (3, 4, 6, 3)
COUNTER = "num_batches_tracked"  # a frozen batch norm has none


class ResNet50(nn.Module):
    """Feature maps of strides 4, 8, 16 and 32; they do not depend on the expressions."""

    reads_text = False
    channels = (256, 512, 1024, 2048)

    def __init__(self) -> None:
        super().__init__()
        parts = ResNet(Bottleneck, list(BLOCKS), norm_layer=FrozenBatchNorm2d)
        self.conv1, self.bn1 = parts.conv1, parts.bn1
        self.relu, self.maxpool = parts.relu, parts.maxpool
        self.layer1, self.layer2 = parts.layer1, parts.layer2
        self.layer3, self.layer4 = parts.layer3, parts.layer4

    def forward(
        self, images: Tensor, words: Tensor, is_word: Tensor, image_index: Tensor
    ) -> list[Tensor]:
        """Maps (B, C, h, w) of images (B, 3, H, W), finest first."""
        features = self.maxpool(self.relu(self.bn1(self.conv1(images))))
        maps = []
        for layer in (self.layer1, self.layer2, self.layer3, self.layer4):
            features = layer(features)
            maps.append(features)
        return maps

    def load_pretrained(self, path: Path) -> None:
        """Start from torchvision's ImageNet weights (resnet50-*.pth)."""
        state = read_published(path)
        kept = {
            name: tensor
            for name, tensor in state.items()
            if not name.startswith("fc.") and not name.endswith(COUNTER)
        }
        load_exactly(self, kept, path)


def torchvision_name(name: str) -> str:
    """The name used here of one of detectron2's: res2.0.conv1.norm.weight, layer1.0.bn1.weight."""
    name = name.removeprefix("stem.")
    name = re.sub(r"^res(\d)\.", lambda match: f"layer{int(match[1]) - 1}.", name)
    name = re.sub(r"shortcut\.norm\.", "downsample.1.", name)
    name = re.sub(r"shortcut\.", "downsample.0.", name)
    return re.sub(r"conv(\d)\.norm\.", r"bn\1.", name)
