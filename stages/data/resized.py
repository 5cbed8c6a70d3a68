"""The file of resize_images: the pixels of every image, read on access."""

from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stages.runtime.errors import InputError


class ResizedImages:
    """Square images of one size by image number. Raises InputError for any other file."""

    def __init__(self, path: Path, size: int) -> None:
        self.path = path
        try:
            shape = self.pixels.shape
        except ValueError as error:
            raise InputError(f"{path}: {error}; needed a file of resize_images") from None
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
        return {"path": self.path}  # each process opens the file itself
