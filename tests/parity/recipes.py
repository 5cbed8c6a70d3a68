"""Deterministic weights and inputs of the golden cases.

Each array is a function of a seed and a name, so that golden values need no stored weights: the
outputs of the official code were recorded on exactly these numbers.
"""

import zlib
from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Shape = tuple[int, ...]
START, END, VOCABULARY = 49406, 49407, 49408


def generator(seed: int, name: str) -> np.random.Generator:
    """The stream of random numbers that belongs to a name."""
    return np.random.default_rng([seed, zlib.crc32(name.encode())])


def parameter(name: str, shape: Shape, seed: int) -> NDArray[np.float32]:
    """Values of the parameter or buffer `name`, of the size usual for its kind."""
    stream = generator(seed, name)
    kind = name.rpartition(".")[2]
    if kind == "logit_scale":
        return np.full(shape, np.log(1 / 0.07), np.float32)
    if kind == "running_var":
        return stream.uniform(0.5, 1.5, shape).astype(np.float32)
    values = stream.standard_normal(shape)
    if kind == "running_mean":
        values = 0.1 * values
    elif len(shape) >= 2:
        values = values / np.sqrt(int(np.prod(shape[1:])))
    elif len(shape) == 1 and kind in ("weight", "gamma"):
        values = 1.0 + 0.1 * values
    else:
        values = 0.1 * values
    return np.asarray(values, np.float32)


def state_dict(entries: Mapping[str, tuple[Shape, str]], seed: int) -> dict[str, Tensor]:
    """Tensors for the floating-point entries {name: (shape, dtype)} of a manifest."""
    return {
        name: torch.from_numpy(parameter(name, tuple(shape), seed))
        for name, (shape, dtype) in entries.items()
        if "float" in dtype
    }


def image(shape: Shape, seed: int, name: str = "image") -> Tensor:
    """Standard-normal images (N, 3, H, W), as if already normalized."""
    return torch.from_numpy(generator(seed, name).standard_normal(shape).astype(np.float32))


def image_bytes(shape: Shape, seed: int, name: str = "image_u8") -> Tensor:
    """Uniform uint8 RGB images (N, 3, H, W)."""
    return torch.from_numpy(generator(seed, name).integers(0, 256, shape, dtype=np.uint8))


def on(device: torch.device, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The same inputs on a device."""
    return {name: value.to(device) for name, value in batch.items()}


def in_float64(batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The same inputs for a network in float64; token ids and indices stay integers."""
    return {n: v.double() if v.is_floating_point() else v for n, v in batch.items()}


def tokens(
    batch: int,
    length: int,
    context: int,
    seed: int,
    name: str = "tokens",
    vocabulary: int = VOCABULARY,
) -> Tensor:
    """CLIP token ids (batch, context): start, up to `length` words, end, zeros."""
    stream = generator(seed, name)
    rows = np.zeros((batch, context), np.int64)
    for number, row in enumerate(rows):
        words = max(1, min(length - number % 3, context - 2))
        row[0] = vocabulary - 2
        row[1 : words + 1] = stream.integers(300, vocabulary - 3, words)
        row[words + 1] = vocabulary - 1
    return torch.from_numpy(rows)


def bert_tokens(
    batch: int, seed: int, words: tuple[int, ...], context: int = 20, name: str = "bert_tokens"
) -> tuple[Tensor, Tensor]:
    """BERT token ids and attention mask, both (batch, context), `words` cycled over the rows."""
    stream = generator(seed, name)
    rows = np.zeros((batch, context), np.int64)
    mask = np.zeros_like(rows)
    for number, row in enumerate(rows):
        length = min(words[number % len(words)], context - 2)
        row[0], row[length + 1] = 101, 102
        row[1 : length + 1] = stream.integers(1000, 30522, length)
        mask[number, : length + 2] = 1
    return torch.from_numpy(rows), torch.from_numpy(mask)


def block_mask(
    shape: tuple[int, int, int], seed: int, name: str = "mask", cell: int = 8, share: float = 0.7
) -> Tensor:
    """uint8 masks (N, H, W) of cell x cell blocks, each 1 with probability `share`."""
    count, height, width = shape
    rows, columns = -(-height // cell), -(-width // cell)
    grid = generator(seed, name).random((count, rows, columns)) < share
    blocks = grid.repeat(cell, axis=1).repeat(cell, axis=2)
    return torch.from_numpy(blocks[:, :height, :width].astype(np.uint8))


def gradient_probe(name: str, gradient: Tensor, seed: int) -> float:
    """The gradient's inner product with fixed normal noise: one number that sees every element."""
    noise = generator(seed, name + ".probe").standard_normal(tuple(gradient.shape))
    probe = torch.from_numpy(np.asarray(noise.astype(np.float32))).double()
    return float((gradient.cpu().double() * probe).sum())
