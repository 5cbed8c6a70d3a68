"""A few expressions of a split, and the predictions of a model for them during training."""

import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor, nn

from stages.config.section import TextField
from stages.data.dataset import ReferringDataset
from stages.data.images import read_image
from stages.data.resize_modes import ResizeModeName
from stages.data.text import Tokenizer
from stages.reporting.overlay import (
    PREDICTION,
    SIDE,
    comparison_thumbnail,
    mask_thumbnail,
    response_overlay,
    thumbnail,
)
from stages.runtime.device import autocast
from stages.storage.masks import Mask, decode
from stages.storage.tables import Samples

EXPRESSIONS = 8  # of as many images, spread over the split
COLUMNS = 2
CAPTION = 20  # pixels, over each pair of images
LONGEST = 46  # characters of a caption
GAP = 6  # around a pair
PAIR = 2 * SIDE + 2  # its width


@dataclass(frozen=True)
class _Shown:
    """An expression, its image, and its ground truth if that is known."""

    text: str
    image: Image.Image
    ground_truth: Mask | None


def _shown(row: Any) -> _Shown:
    image = read_image(row.file)
    known = isinstance(row.mask, str)
    return _Shown(row.text, image, decode(row.mask, *image.size[::-1]) if known else None)


class Panel:
    """Response maps of fixed expressions, and their masks with the outlines of the ground truth."""

    def __init__(
        self,
        split: Samples,
        tokenizer: Tokenizer,
        image_size: int,
        resize_mode: ResizeModeName,
        text_field: TextField = "sent",
    ) -> None:
        """Shows the first expression of some images of the split."""
        objects = split.objects.drop_duplicates("image")
        picks = np.linspace(0, len(objects) - 1, min(EXPRESSIONS, len(objects))).round().astype(int)
        shown = split.of(objects.iloc[picks])
        shown = replace(shown, expressions=shown.expressions.drop_duplicates("object"))
        data = ReferringDataset(
            shown, tokenizer, image_size, resize_mode=resize_mode, text_field=text_field
        )
        self.resize_mode = data.resize_mode
        self.batch = data.prepare(data.collate([data.of_image(i) for i in data.images.index]))
        rows = shown.images.merge(shown.objects, on="image").merge(shown.expressions, on="object")
        self.shown = [_shown(row) for row in rows.itertuples()]

    def __call__(self, model: nn.Module) -> NDArray[np.uint8]:
        """The panel (height, width, 3) by the current weights of a model, which is not changed."""
        width, height = PAIR + GAP, CAPTION + SIDE + GAP
        rows = -(-len(self.shown) // COLUMNS)
        canvas = Image.new("RGB", (COLUMNS * width, rows * height), "white")
        for number, (shown, small) in enumerate(zip(self.shown, self._maps(model), strict=True)):
            row, column = divmod(number, COLUMNS)
            canvas.paste(self._cell(shown, small, model), (column * width, row * height))
        return np.asarray(canvas)

    def _maps(self, model: Any) -> Tensor:
        """(T, S, S) float32 on the CPU."""
        device = next(model.parameters()).device
        batch = {name: value.to(device) for name, value in self.batch.items()}
        with _eval_mode(model), torch.no_grad(), autocast(device):
            maps: Tensor = model.predict(batch)
        return maps.float().cpu()

    def _cell(self, shown: _Shown, small: Tensor, model: Any) -> Image.Image:
        shape = (shown.image.height, shown.image.width)
        full = self.resize_mode.restore(small[None], shape, model.background_value)[0]  # (H, W)
        mask = (full > 0).numpy()
        cell = Image.new("RGB", (PAIR, CAPTION + SIDE), "white")
        caption = textwrap.shorten(shown.text, LONGEST, placeholder=" ...")
        ImageDraw.Draw(cell).text((2, 2), caption, "black", ImageFont.load_default(12))
        response = response_overlay(shown.image, full.clamp_min(0).numpy())
        cell.paste(thumbnail(response), (0, CAPTION))
        outcome = (
            mask_thumbnail(shown.image, mask, PREDICTION)
            if shown.ground_truth is None
            else comparison_thumbnail(shown.image, mask, shown.ground_truth)
        )
        cell.paste(outcome, (PAIR - SIDE, CAPTION))
        return cell


def validation_panel(
    samples: Samples,
    tokenizer: Tokenizer,
    image_size: int,
    resize_mode: ResizeModeName,
    text_field: TextField = "sent",
) -> Panel | None:
    """The panel of the split val; None for a data set without one."""
    split = samples.of(samples.objects[samples.objects.split == "val"])
    if split.objects.empty:
        return None
    return Panel(split, tokenizer, image_size, resize_mode, text_field)


@contextmanager
def _eval_mode(model: nn.Module) -> Iterator[None]:
    """Puts all modules of a model in eval mode, and restores the mode of each afterwards."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training
