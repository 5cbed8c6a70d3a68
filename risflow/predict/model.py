"""A trained model that predicts masks of single images.

Shapes: T expressions, H x W pixels of the image.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from risflow.predict.images import MOST_PIXELS, ImageLike, load_image
from risflow.predict.requests import require_expressions
from stages.config.section import Precision, Section
from stages.data.limits import describe_limits, unknown_in
from stages.inference.inference import ExpressionPrediction, Inference
from stages.models.saved import load_model
from stages.runtime.device import pick_device

BATCH = 32  # expressions a forward pass


@dataclass(frozen=True)
class Prediction:
    """The predictions for all expressions, in their order."""

    expressions: list[str]
    masks: NDArray[np.bool_]  # (T, H, W)
    maps: NDArray[np.float32]  # (T, H, W) positive in the mask; not comparable between models
    scores: NDArray[np.float32]  # (T,) the highest value of each map
    no_target: NDArray[np.bool_]  # (T,) predicted: nothing in the image fits


class Model:
    """A trained model on a device."""

    config: Section  # its options

    def __init__(
        self,
        path: Path,
        device: Literal["auto", "cpu", "cuda"] = "auto",
        precision: Precision = "float32",
    ) -> None:
        if not path.is_file():
            raise FileNotFoundError(f"{path}: no such file; needed a model file (.safetensors)")
        with torch.random.fork_rng(devices=[]):  # layers draw weights before they get theirs
            saved = load_model(path)
        self.path, self.config = path, saved.config
        self.inference = Inference(saved, pick_device(device), precision)

    @property
    def device(self) -> str:
        return self.inference.device.type

    def predict(
        self, image: ImageLike, expressions: str | Sequence[str], most_pixels: int = MOST_PIXELS
    ) -> Prediction:
        """Masks and response maps (T, H, W) of some expressions of one image.

        The image is a path, a Pillow image or RGB values (H, W, 3) of 8 bits. Raises InputError
        for an image that cannot be read or has more than `most_pixels`, and for an expression that
        is empty or too long.
        """
        texts = [expressions] if isinstance(expressions, str) else list(expressions)
        results = list(self.predict_each(load_image(image, most_pixels), texts))
        return Prediction(
            expressions=texts,
            masks=np.stack([result.mask for result in results]),
            maps=np.stack([result.map.numpy() for result in results]),
            scores=np.array([result.score for result in results], np.float32),
            no_target=np.array([result.no_target for result in results]),
        )

    def predict_each(
        self, image: Image.Image, expressions: Sequence[str]
    ) -> Iterator[ExpressionPrediction]:
        """The predictions one by one, so that only one map is in memory at a time."""
        require_expressions(expressions)
        inference = self.inference
        pixels = inference.resize_mode.image(image, inference.image_size)
        for tokens in inference.tokenizer(expressions).split(BATCH):
            index = torch.zeros(len(tokens), dtype=torch.int64)
            batch: dict[str, Any] = {"images": pixels[None], "image_index": index, "tokens": tokens}
            for result in inference.predict(batch, [(image.height, image.width)]):
                # As in evaluation, the mask is empty if no target is predicted.
                yield replace(result, mask=result.mask & (not result.no_target))

    def limits_for(self, expressions: Sequence[str]) -> list[str]:
        """What is to be known before its masks are trusted.

        That is that it knows drawn shapes only, and words of the expressions that it does not know.
        """
        tokenizer = self.inference.tokenizer
        lines = describe_limits(tokenizer), unknown_in(expressions, tokenizer)
        return [line for line in lines if line is not None]

    def unknown_words(self, text: str) -> list[str]:
        """The words of an expression that the model has never seen."""
        return self.inference.tokenizer.unknown_words(text)

    def too_long(self, expressions: Sequence[str]) -> list[str]:
        """The expressions that have too many tokens, so that their last words are cut off."""
        return [expressions[number] for number in self.inference.tokenizer.too_long(expressions)]
