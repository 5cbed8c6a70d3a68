"""What resize_images wrote: the pixels of every image, read when they are asked for."""

from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stages.runtime.errors import InputError


class ResizedImages:
    """Squares of one size by the number of their image. Raises InputError for any other file."""

    def __init__(self, path: Path, size: int) -> None:
        self.path = path
        try:
            shape = self.pixels.shape
        except ValueError as error:
            raise InputError(f"{path}: {error}; needed what resize_images writes") from None
        if self.pixels.dtype != np.uint8 or shape[1:] != (3, size, size):
            raise InputError(
                f"{path}: {self.pixels.dtype} of shape {shape}; needed bytes of (3, {size}, {size})"
            )

    def __getitem__(self, image: int) -> Tensor:
        """uint8 (3, S, S)."""
        return torch.from_numpy(np.array(self.pixels[image]))

    @cached_property
    def pixels(self) -> NDArray[Any]:
        return np.load(self.path, mmap_mode="r")

    def __getstate__(self) -> dict[str, Any]:
        return {"path": self.path}  # another process opens the file itself
