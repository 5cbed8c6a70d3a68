"""A few expressions of a split, and what a model makes of them while it is trained."""

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

from stages.data.dataset import ReferringDataset
from stages.data.framing import FramingName
from stages.data.images import read_image
from stages.data.text import Tokenizer
from stages.reporting.pictures import PREDICTED, SIDE, against, heat, over
from stages.runtime.device import autocast
from stages.storage.masks import Mask, decode
from stages.storage.tables import Samples

EXPRESSIONS = 8  # of as many images, spread over the split
COLUMNS = 2
CAPTION = 20  # pixels, over each pair of pictures
LONGEST = 46  # characters of it
GAP = 6  # around a pair
PAIR = 2 * SIDE + 2  # its width


@dataclass(frozen=True)
class _Shown:
    """An expression, its image, and its true mask if that is known."""

    text: str
    image: Image.Image
    truth: Mask | None


def _shown(row: Any) -> _Shown:
    image = read_image(row.file)
    known = isinstance(row.mask, str)
    return _Shown(row.text, image, decode(row.mask, *image.size[::-1]) if known else None)


class Panel:
    """Always the same expressions: their response maps, and their masks over the true outlines."""

    def __init__(
        self, part: Samples, tokenizer: Tokenizer, image_size: int, framing: FramingName
    ) -> None:
        """Of a split, the first expression of some images is shown."""
        objects = part.objects.drop_duplicates("image")
        picks = np.linspace(0, len(objects) - 1, min(EXPRESSIONS, len(objects))).round().astype(int)
        some = part.of(objects.iloc[picks])
        some = replace(some, expressions=some.expressions.drop_duplicates("object"))
        data = ReferringDataset(some, tokenizer, image_size, framing=framing)
        self.framing = data.framing
        self.batch = data.collate([data.of_image(image) for image in data.images.index])
        rows = some.images.merge(some.objects, on="image").merge(some.expressions, on="object")
        self.shown = [_shown(row) for row in rows.itertuples()]

    def __call__(self, model: nn.Module) -> NDArray[np.uint8]:
        """The panel (height, width, 3) by a model as it is now, which stays as it is."""
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
        with _as_in_use(model), torch.no_grad(), autocast(device):
            maps: Tensor = model.predict(batch)
        return maps.float().cpu()

    def _cell(self, shown: _Shown, small: Tensor, model: Any) -> Image.Image:
        shape = (shown.image.height, shown.image.width)
        full = self.framing.restore(small[None], shape, model.certain)[0]  # (H, W)
        mask = (full > 0).numpy()
        cell = Image.new("RGB", (PAIR, CAPTION + SIDE), "white")
        caption = textwrap.shorten(shown.text, LONGEST, placeholder=" ...")
        ImageDraw.Draw(cell).text((2, 2), caption, "black", ImageFont.load_default(12))
        cell.paste(heat(shown.image, full.clamp_min(0).numpy()), (0, CAPTION))
        outcome = (
            over(shown.image, mask, PREDICTED)
            if shown.truth is None
            else against(shown.image, mask, shown.truth)
        )
        cell.paste(outcome, (PAIR - SIDE, CAPTION))
        return cell


def validation_panel(
    samples: Samples, tokenizer: Tokenizer, image_size: int, framing: FramingName
) -> Panel | None:
    """The panel of the split val; None for a data set without one."""
    part = samples.of(samples.objects[samples.objects.split == "val"])
    return None if part.objects.empty else Panel(part, tokenizer, image_size, framing)


@contextmanager
def _as_in_use(model: nn.Module) -> Iterator[None]:
    """Each part of a model in its mode for use, and afterwards in the one that it was in."""
    modes = [(part, part.training) for part in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for part, training in modes:
            part.training = training
