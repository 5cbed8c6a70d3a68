"""Feature extractors of the inter-pixel relation network: five maps of strides 4, 4, 8, 16, 16.

The strides are the official ones (net/resnet50_irn.py): the last stage keeps the stride of the one
before it.
"""

from pathlib import Path

import torch
from torch import Tensor, nn

from stages.runtime.errors import InputError
from stages.storage.matching import load_exactly
from stages.storage.weights import read_published


class Backbone(nn.Module):
    """The interface of a feature extractor."""

    channels: tuple[int, ...]

    def load_imagenet(self, path: Path) -> None:
        """Start from ImageNet weights."""
        raise InputError(f"{path}: this backbone has no ImageNet weights; leave `weights` out")


class FrozenResNet50(Backbone):
    """torchvision's ResNet-50 without a stride in the last stage; it is never trained."""

    channels = (64, 256, 512, 1024, 2048)

    def __init__(self) -> None:
        # Takes seconds, which the narrow one need not wait for.
        from torchvision.models import resnet50

        super().__init__()
        self.network = resnet50(weights=None)
        del self.network.fc
        first = self.network.layer4[0]
        first.conv2.stride = first.downsample[0].stride = (1, 1)
        self.requires_grad_(False)

    def train(self, mode: bool = True) -> "FrozenResNet50":
        """Batch normalization keeps ImageNet's statistics while the heads are trained."""
        return super().train(False)

    @torch.no_grad()
    def forward(self, images: Tensor) -> list[Tensor]:
        net = self.network
        features = [net.maxpool(net.relu(net.bn1(net.conv1(images))))]
        for stage in (net.layer1, net.layer2, net.layer3, net.layer4):
            features.append(stage(features[-1]))
        return features

    def load_imagenet(self, path: Path) -> None:
        """Load torchvision's resnet50 file (.pth or .safetensors)."""
        state = read_published(path)
        weights = {name: value for name, value in state.items() if not name.startswith("fc.")}
        # Files from before torch 0.4 have no counters of batches, and nothing reads them here.
        own = self.network.state_dict()
        counters = {name: own[name] for name in own if name.endswith("num_batches_tracked")}
        load_exactly(self.network, {**counters, **weights}, path)


class NarrowResNet(Backbone):
    """A residual network of one narrow block a stage, trained from scratch with the heads."""

    channels = (16, 24, 32, 48, 64)

    def __init__(self) -> None:
        super().__init__()
        stem = self.channels[0]
        self.stem = nn.Sequential(
            nn.Conv2d(3, stem, kernel_size=7, stride=4, padding=3, bias=False),
            nn.BatchNorm2d(stem),
            nn.ReLU(inplace=True),
        )
        widths = zip(self.channels[:-1], self.channels[1:], (1, 2, 2, 1), strict=True)
        self.stages = nn.ModuleList(Block(*width) for width in widths)

    def forward(self, images: Tensor) -> list[Tensor]:
        features = [self.stem(images)]
        for stage in self.stages:
            features.append(stage(features[-1]))
        return features


class Block(nn.Module):
    """Two convolutions and a projection around them (He et al., CVPR 2016)."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        around = nn.Conv2d(inputs, outputs, kernel_size=1, stride=stride, bias=False)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(outputs, outputs, kernel_size=3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.downsample = nn.Sequential(around, nn.BatchNorm2d(outputs))

    def forward(self, features: Tensor) -> Tensor:
        """(B, inputs, h, w) to (B, outputs, h / stride, w / stride)."""
        inner = self.relu(self.bn1(self.conv1(features)))
        inner = self.bn2(self.conv2(inner))
        inner += self.downsample(features)
        return self.relu(inner)
