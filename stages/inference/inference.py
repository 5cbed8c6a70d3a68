"""Predictions of a trained model for expressions, at the size of the image.

Shapes: I images, T expressions, S x S pixels that the model sees, H x W pixels of an image.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import groupby
from typing import Any

import torch
from torch import Tensor

from stages.backbones.clip import frozen
from stages.config.section import Precision, TextField
from stages.config.segmentors import Segmentor
from stages.data.resize_modes import RESIZE_MODES, ResizeModeName
from stages.data.text import Tokenizer
from stages.data.wordpiece import load_model_tokenizer
from stages.models.saved import GeneralizedPredictor, Saved
from stages.runtime.device import inferring
from stages.storage.encode_masks import encode_all
from stages.storage.masks import Mask

VALUES_AT_ONCE = 20_000_000  # pixels of maps at the size of an image: 65 of 640 x 480


@dataclass(frozen=True)
class ExpressionPrediction:
    """The prediction of a model for one expression."""

    map: Tensor  # (H, W) float32 on the CPU; scales differ between models
    mask: Mask  # (H, W), where the map is positive
    peak: tuple[int, int]  # row and column where the map is highest
    score: float  # the map's highest value
    no_target: bool  # predicted, or, by most models, only told by an empty mask


@dataclass(frozen=True)
class EncodedPrediction:
    """The same without its map: the mask as run lengths."""

    mask: str
    peak: tuple[int, int]
    score: float
    no_target: bool
    input_mask: str | None  # in the square that the model sees, if asked for


class Inference:
    """A model on its device, with its resize mode and its tokenizer."""

    def __init__(
        self, saved: Saved[Any], device: torch.device, precision: Precision = "float32"
    ) -> None:
        self.device, self.precision = device, precision
        self.model: Any = frozen(saved.model).to(device)
        self.config = saved.config
        self.image_size = saved.image_size
        # Stage 1 and zero-shot CLIP read what TRIS's segmentor does.
        self.text_field: TextField = getattr(saved.config, "text_field", Segmentor.text_field)
        self.resize_mode_name: ResizeModeName = self.model.resize_mode
        self.resize_mode = RESIZE_MODES[self.resize_mode_name]

    @cached_property
    def tokenizer(self) -> Tokenizer:
        """The tokenizer of the expressions that it reads."""
        return load_model_tokenizer(self.config)

    def predict(
        self, batch: dict[str, Tensor], shapes: Sequence[tuple[int, int]]
    ) -> Iterator[ExpressionPrediction]:
        """One prediction an expression, of images (I, 3, S, S), tokens (T, L), image_index (T,).

        Images are bytes, in the model's resize mode; `shapes` are their heights and widths. Maps
        are enlarged one at a time.
        """
        maps, absent = self._maps(batch)
        for image, small, nothing in zip(batch["image_index"].tolist(), maps, absent, strict=True):
            shape = shapes[image]
            full = self.resize_mode.restore(small[None], shape, self.model.background_value)[
                0
            ].cpu()  # (H, W)
            row, column = divmod(int(full.argmax()), shape[1])
            mask = (full > 0).numpy()
            yield ExpressionPrediction(
                map=full,
                mask=mask,
                peak=(row, column),
                score=float(full[row, column]),
                no_target=not mask.any() if nothing is None else nothing,
            )

    def encode(
        self,
        batch: dict[str, Tensor],
        shapes: Sequence[tuple[int, int]],
        at_input_size: bool = False,
    ) -> Iterator[EncodedPrediction]:
        """As `predict`, with masks and peaks found on the device.

        `at_input_size`: masks of the square that the model sees, too.

        The device is waited for once for each image, not for each expression. So many maps of an
        image are at full size at a time as have VALUES_AT_ONCE pixels, one at least.
        """
        maps, absent = self._maps(batch)
        start = 0
        for image, run in groupby(batch["image_index"].tolist()):
            height, width = shapes[image]
            stop = start + len(list(run))
            while start < stop:
                end = min(stop, start + max(1, VALUES_AT_ONCE // (height * width)))
                results = self._encode(maps[start:end], absent[start:end], (height, width))
                squares = encode_all(maps[start:end] > 0) if at_input_size else None
                for number, result in enumerate(results):
                    yield replace(result, input_mask=squares[number]) if squares else result
                start = end

    def _maps(self, batch: dict[str, Tensor]) -> tuple[Tensor, Sequence[bool | None]]:
        """Maps (T, S, S), and whether there is no target; None if it is not predicted."""
        on_device = {name: value.to(self.device) for name, value in batch.items()}
        on_device["images"] = self.resize_mode.normalize(on_device["images"])
        with inferring(self.device, self.precision):
            if isinstance(self.model, GeneralizedPredictor):
                maps, absent = self.model.predict_generalized(on_device)
                return maps.float(), (absent > 0).tolist()
            maps = self.model.predict(on_device).float()
        return maps, [None] * len(maps)

    def _encode(
        self, maps: Tensor, absent: Sequence[bool | None], shape: tuple[int, int]
    ) -> Iterator[EncodedPrediction]:
        outside = self.model.background_value
        # One by one, as `predict` does: of several together the last bit may differ.
        full = torch.cat(
            [self.resize_mode.restore(single[None], shape, outside) for single in maps]
        )
        flat = full.flatten(1)
        peaks = flat.argmax(1)
        scores = flat.gather(1, peaks[:, None])[:, 0].tolist()
        places = peaks.tolist()
        inside = full > 0
        masks, filled = encode_all(inside), inside.flatten(1).any(1).tolist()
        for number, nothing in enumerate(absent):
            row, column = divmod(places[number], shape[1])
            no_target = not filled[number] if nothing is None else nothing
            yield EncodedPrediction(masks[number], (row, column), scores[number], no_target, None)
