"""The masked view of MaskRIS (Chang et al., 2024): a batch with parts of images and words hidden.

Images are hidden in square patches, which get a learned color; of the chosen words 80 % become one
that says nothing, 10 % another word of the batch, 10 % stay (naver-ai/maskris).

Shapes: I images, T expressions of L tokens, S x S pixels.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from stages.config.steps import MaskedView

HIDDEN, OTHER = 0.8, 0.9  # shares of the chosen words: hidden; and those and another word


class Hiding(nn.Module):
    """Hides parts of batches; `unknown` is the token that says nothing."""

    def __init__(self, options: MaskedView, unknown: int) -> None:
        super().__init__()
        self.options, self.unknown = options, unknown
        self.color = nn.Parameter(torch.zeros(3))  # the mean of all images, at first

    def forward(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """The batch with other images (I, 3, S, S) and tokens (T, L)."""
        tokens = hide_words(batch["tokens"], self.options.words, self.unknown)
        return {**batch, "images": self.hide_patches(batch["images"]), "tokens": tokens}

    def hide_patches(self, images: Tensor) -> Tensor:
        """Images (I, 3, S, S), most of whose patches have the learned color."""
        side = images.shape[2]
        cells = -(-side // self.options.patch)
        hidden = torch.rand(len(images), 1, cells, cells, device=images.device)
        hidden = (hidden < self.options.pixels).to(images.dtype)
        hidden = F.interpolate(hidden, scale_factor=self.options.patch, mode="nearest")
        color = self.color.to(images.dtype)[:, None, None]
        return torch.lerp(images, color, hidden[..., :side, :side])


def hide_words(tokens: Tensor, share: float, unknown: int) -> Tensor:
    """Tokens (T, L), of whose words (not start, end and padding) a share is hidden."""
    places = torch.arange(tokens.shape[1], device=tokens.device)
    ends = (tokens != 0).sum(dim=1, keepdim=True) - 1
    is_word = (places > 0) & (places < ends)
    chosen = is_word & (torch.rand(tokens.shape, device=tokens.device) < share)
    how = torch.rand(tokens.shape, device=tokens.device)
    words = tokens[is_word]
    drawn = torch.randint(max(1, len(words)), tokens.shape, device=tokens.device)
    others = words[drawn] if len(words) else tokens
    hidden = torch.where(chosen & (how < HIDDEN), unknown, tokens)
    return torch.where(chosen & (how >= HIDDEN) & (how < OTHER), others, hidden)


@contextmanager
def measuring_nothing(model: nn.Module) -> Iterator[None]:
    """Norms measure no batch: predictions see whole images, whose statistics are others."""
    norms = [module for module in model.modules() if isinstance(module, _BatchNorm)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 0.0
    try:
        yield
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
