"""One model, asked about single pictures.

Shapes: T expressions, H x W pixels of the picture.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from risflow.predict.images import MOST_PIXELS, read_picture
from risflow.predict.requests import require_expressions
from stages.config.section import Section
from stages.inference.inference import Answer, Inference
from stages.models.saved import load_model
from stages.runtime.device import choose_device

BATCH = 32  # expressions a forward pass

Picture = str | Path | Image.Image | NDArray[np.uint8]


@dataclass(frozen=True)
class Prediction:
    """What a model says of the expressions, in their order."""

    expressions: list[str]
    masks: NDArray[np.bool_]  # (T, H, W)
    maps: NDArray[np.float32]  # (T, H, W) positive in the mask; not comparable between models
    scores: NDArray[np.float32]  # (T,) the highest value of each map
    no_target: NDArray[np.bool_]  # (T,) whether there is said to be none


class Model:
    """A trained model on a device."""

    config: Section  # the options that it was made with

    def __init__(self, path: Path, device: Literal["auto", "cpu", "cuda"] = "auto") -> None:
        if not path.is_file():
            raise FileNotFoundError(f"{path}: no such file; needed a model file (.safetensors)")
        saved = load_model(path)
        self.path, self.config = path, saved.config
        self.inference = Inference(saved, choose_device(device))

    @property
    def device(self) -> str:
        return self.inference.device.type

    def predict(
        self, image: Picture, expressions: str | Sequence[str], most_pixels: int = MOST_PIXELS
    ) -> Prediction:
        """Masks and response maps (T, H, W) of some expressions of one picture.

        A picture is a path, a Pillow image or RGB values (H, W, 3) of 8 bits. Raises InputError
        for a picture that cannot be read or is larger than `most_pixels`, and for an expression
        that is empty or no sentence.
        """
        texts = [expressions] if isinstance(expressions, str) else list(expressions)
        answers = list(self.answers(read_picture(image, most_pixels), texts))
        return Prediction(
            expressions=texts,
            masks=np.stack([answer.mask for answer in answers]),
            maps=np.stack([answer.map.numpy() for answer in answers]),
            scores=np.array([answer.score for answer in answers], np.float32),
            no_target=np.array([answer.no_target for answer in answers]),
        )

    def answers(self, image: Image.Image, expressions: Sequence[str]) -> Iterator[Answer]:
        """The same one by one, so that not all maps need memory at a time."""
        require_expressions(expressions)
        inference = self.inference
        pixels = inference.framing.image(image, inference.image_size)
        images = inference.framing.normalize(pixels[None])
        for tokens in inference.tokenizer(expressions).split(BATCH):
            index = torch.zeros(len(tokens), dtype=torch.int64)
            batch: dict[str, Any] = {"images": images, "image_index": index, "tokens": tokens}
            for answer in inference.answers(batch, [(image.height, image.width)]):
                # As it is scored: where there is said to be no target, the mask is empty.
                yield replace(answer, mask=answer.mask & (not answer.no_target))

    def cut(self, expressions: Sequence[str]) -> list[str]:
        """Those of which the last words are not read, because they are too many."""
        return [expressions[number] for number in self.inference.tokenizer.too_long(expressions)]
