"""The losses of TRIS, by name.

Each follows official train_stage1.py, train_stage2.py, model/model_stage1.py or
model/model_stage2.py, apart from `dice_loss`, which it does not have.

Shapes: B images, T expressions, N negatives of an image, H x W pixels. `weights` (T,), of mean 1
over the data set, say how much the mask of each expression counts.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

SMALL = 1e-4  # keeps logarithms finite


def foreground_loss(cosines: Tensor) -> Tensor:
    """-log of the cosine (B,) of an image times its response map and of its expression."""
    return -cosines.clamp(SMALL, 1 - SMALL).log().mean()


def negatives_loss(cosines: Tensor, bounded: bool = True) -> Tensor:
    """-log(1 - cosine) with expressions (B, N) of other objects; negative where the cosine is.

    Bounded at cosine 1 - 1e-4. The official loss is not: it is infinite where a negative matches
    fully.
    """
    rest = 1 - cosines
    return -(rest.clamp(min=SMALL) if bounded else rest).log().mean()


def classification_loss(scores: Tensor, first: int = 0) -> Tensor:
    """Matching of images and expressions: scores (B, T), image b with expression first + b."""
    labels = torch.zeros_like(scores)
    labels.diagonal(first).fill_(1)
    return F.multilabel_soft_margin_loss(scores, labels)


def focal_penalty(shares: Tensor, power: float, constant: float) -> Tensor:
    """(1 - share)^power log(constant + share): low for a map that covers little of its image."""
    return (1 - shares).pow(power) * (constant + shares).log()


def mask_loss(logits: Tensor, masks: Tensor, weights: Tensor | None = None) -> Tensor:
    """Binary cross-entropy of logits (T, H, W) with masks of 0 and 1."""
    each = weights[:, None, None] if weights is not None else None
    return F.binary_cross_entropy_with_logits(logits, masks, each)


def consistency_loss(logits: Tensor, others: Tensor) -> Tensor:
    """Mean square of the difference of two probabilities, given as logits (T, H, W)."""
    return F.mse_loss(logits.sigmoid(), others.sigmoid())


def dice_loss(
    logits: Tensor, masks: Tensor, weights: Tensor | None = None, smooth: float = 1.0
) -> Tensor:
    """1 - Dice of each expression's soft mask (T, H, W), averaged; 0 where both are empty."""
    soft = logits.sigmoid()
    overlap = (soft * masks).sum(dim=(1, 2))
    total = soft.sum(dim=(1, 2)) + masks.sum(dim=(1, 2))
    each = 1 - (2 * overlap + smooth) / (total + smooth)
    return (each if weights is None else weights * each).mean()
