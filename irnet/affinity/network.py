"""The inter-pixel relation network: edges, and the offset of each cell to its object's center.

Ahn et al. (IRNet, CVPR 2019); official net/resnet50_irn.py. Two backbones: the official ResNet-50
(ImageNet weights, frozen) and a narrow one that is trained from scratch, for small images.

Shapes: B images of X x Y pixels, H x W grid of cells of 4 x 4 pixels (H = ceil(X / 4)).
"""

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from irnet.affinity.backbones import Backbone, FrozenResNet50, NarrowResNet
from irnet.affinity.losses import pair_offsets, relation_losses
from stages.config.older_versions import training_options
from stages.config.steps import Affinity
from stages.runtime.errors import InputError
from stages.storage.weights import load_weights

EDGE_CHANNELS = {"resnet50": 32, "small": 16}
CENTER_CHANNELS = {"resnet50": (64, 128, 256), "small": (16, 32, 48)}


class EdgeHead(nn.Module):
    """Edge logits from all five stages of the backbone."""

    def __init__(self, channels: tuple[int, ...], width: int) -> None:
        super().__init__()
        self.branches = nn.ModuleList(_branch(count, width, 8) for count in channels)
        self.join = nn.Conv2d(len(channels) * width, 1, kernel_size=1)

    def forward(self, features: list[Tensor]) -> Tensor:
        size = features[1].shape[-2:]
        maps = [
            F.relu(_enlarge(branch(feature), stride, size))
            for branch, feature, stride in zip(
                self.branches, features, (1, 1, 2, 4, 4), strict=True
            )
        ]
        return self.join(torch.cat(maps, dim=1))  # (B, 1, H, W)


class DisplacementHead(nn.Module):
    """For each cell the offset, in cells, to the center of its object."""

    mean: Tensor

    def __init__(self, channels: tuple[int, ...], widths: tuple[int, int, int]) -> None:
        super().__init__()
        low, middle, high = widths
        outputs = (low, middle, high, high, high)
        groups = (8, 8, 16, 16, 16)
        self.branches = nn.ModuleList(
            _branch(count, width, group)
            for count, width, group in zip(channels, outputs, groups, strict=True)
        )
        self.coarse = _branch(3 * high, high, 16)
        self.fine = _branch(low + middle + high, high, 16)
        self.output = nn.Conv2d(high, 2, kernel_size=1, bias=False)
        # The losses only depend on differences between cells; the mean is measured after training.
        self.register_buffer("mean", torch.zeros(2))

    def forward(self, features: list[Tensor]) -> Tensor:
        first, second, third, fourth, fifth = (
            branch(feature) for branch, feature in zip(self.branches, features, strict=True)
        )
        maps = [
            third,
            *(_enlarge(feature_map, 2, third.shape[-2:]) for feature_map in (fourth, fifth)),
        ]
        coarse = self.coarse(torch.cat([F.relu(feature_map) for feature_map in maps], dim=1))
        maps = [first, second, _enlarge(coarse, 2, second.shape[-2:])]
        fine = self.fine(torch.cat([F.relu(feature_map) for feature_map in maps], dim=1))
        displacement = self.output(F.relu(fine))  # (B, 2, H, W)
        return displacement if self.training else displacement - self.mean.view(1, 2, 1, 1)


class AffinityNetwork(nn.Module):
    """Edges and displacements of images that are normalized with ImageNet's mean and deviation."""

    def __init__(self, backbone: str) -> None:
        super().__init__()
        self.kind = backbone
        self.backbone: Backbone = FrozenResNet50() if backbone == "resnet50" else NarrowResNet()
        channels = self.backbone.channels
        self.edge = EdgeHead(channels, EDGE_CHANNELS[backbone])
        self.displacement = DisplacementHead(channels, CENTER_CHANNELS[backbone])

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Edge logits (B, 1, H, W) and displacement (B, 2, H, W) of images (B, 3, X, Y)."""
        features = self.backbone(images)
        return self.edge(features), self.displacement(features)

    @torch.no_grad()
    def predict(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Edge probabilities (B, H, W) and displacements (B, 2, H, W) of images (B, 3, X, Y).

        Edges are the mean of an image and its mirror image, in logits. The mirrored grid is
        flipped as it is, though it starts at the other side of a ragged last column: official.
        """
        logits, displacement = self(torch.cat([images, images.flip(-1)]))
        straight, mirrored = logits[:, 0].chunk(2)
        count = len(images)
        return torch.sigmoid(straight / 2 + mirrored.flip(-1) / 2), displacement[:count]


class RelationTraining(nn.Module):
    """The network with its losses, for the training loop."""

    offsets: Tensor

    def __init__(self, config: Affinity) -> None:
        super().__init__()
        self.radius = config.radius
        self.register_buffer("offsets", pair_offsets(config.radius), persistent=False)
        self.network = AffinityNetwork(config.backbone)
        for weights in config.files:
            self.network.backbone.load_imagenet(weights)

    def forward(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Named losses of images (B, 3, X, Y), and labels (P, H, W) of objects of them."""
        logits, displacement = self.network(batch["images"])
        labels, image_index = batch["labels"], batch.get("image_index")
        return relation_losses(logits, displacement, labels, self.radius, image_index, self.offsets)

    def parameter_groups(self, config: Affinity) -> list[dict[str, Any]]:
        """Edge layers first, then displacement layers, then the backbone if it learns."""
        network, rate = self.network, config.learning_rate
        fast = rate * config.displacement_factor
        groups = [
            {"params": list(network.edge.parameters()), "lr": rate},
            {"params": list(network.displacement.parameters()), "lr": fast},
        ]
        learned = [weight for weight in network.backbone.parameters() if weight.requires_grad]
        if learned:
            groups.append({"params": learned, "lr": config.backbone_learning_rate})
        return groups

    def kept(self) -> nn.Module:
        return self.network


def load_affinity(path: Path) -> tuple[AffinityNetwork, Affinity]:
    """A trained network in evaluation mode, and the options it was trained with."""
    state, about = load_weights(path)
    if about.get("kind") != "affinity":
        raise InputError(f"{path}: holds {about.get('kind', 'no')} weights; needed: affinity")
    config = Affinity.model_validate(training_options(json.loads(about["config"])))
    network = AffinityNetwork(config.backbone)
    network.load_state_dict(state)
    return network.eval(), config


def about_affinity(config: Affinity) -> dict[str, str]:
    """The header of the weights file of the network."""
    return {"kind": "affinity", "config": config.model_dump_json()}


def from_official(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights of an official checkpoint (res50_irn.pth) under the names used here.

    The official file has most tensors under two or three names; any of them is used.
    """
    renamed = {_official_name(name): value for name, value in state.items()}
    return {name: value for name, value in renamed.items() if name}


# Official aliases first, then the names used here; the tables of pairs are not weights.
_RENAMINGS: list[tuple[str, str | Callable[[re.Match[str]], str]]] = [
    (r"^(path_indices\d+|disp_target)$", ""),
    (r"^backbone\.(\d)\.", lambda match: f"stage{int(match[1]) + 1}."),
    (r"^edge_layers\.(\d)\.", lambda match: f"fc_edge{int(match[1]) + 1}."),
    (r"^dp_layers\.(\d)\.", lambda match: f"fc_dp{int(match[1]) + 1}."),
    (r"^stage1\.0\.", "resnet50.conv1."),
    (r"^stage1\.1\.", "resnet50.bn1."),
    (r"^stage(\d)\.0\.", lambda match: f"resnet50.layer{int(match[1]) - 1}."),
    (r"^(fc_dp7\.4|mean_shift)\.running_mean$", "displacement.mean"),
    (r"^resnet50\.", "backbone.network."),
    (r"^fc_edge6\.", "edge.join."),
    (r"^fc_edge(\d)\.", lambda match: f"edge.branches.{int(match[1]) - 1}."),
    (r"^fc_dp([1-5])\.", lambda match: f"displacement.branches.{int(match[1]) - 1}."),
    (r"^fc_dp6\.", "displacement.coarse."),
    (r"^fc_dp7\.3\.", "displacement.output."),
    (r"^fc_dp7\.", "displacement.fine."),
]


def _official_name(name: str) -> str:
    for pattern, replacement in _RENAMINGS:
        name = re.sub(pattern, replacement, name)
    return name


def _branch(channels: int, width: int, channels_a_group: int) -> nn.Sequential:
    convolution = nn.Conv2d(channels, width, kernel_size=1, bias=False)
    return nn.Sequential(convolution, nn.GroupNorm(width // channels_a_group, width))


def _enlarge(feature: Tensor, factor: int, size: torch.Size) -> Tensor:
    """Bilinear, cropped to `size`: a coarser map may reach over the last row and column."""
    if factor > 1:
        feature = F.interpolate(feature, scale_factor=factor, mode="bilinear", align_corners=False)
    return feature[..., : size[0], : size[1]]
