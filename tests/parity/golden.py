"""Golden values of the official code: finding, reading and comparing them.

`RISFLOW_PARITY` names a folder of cases in the same layout; every case file found there is run.
"""

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

CASES = Path(os.environ.get("RISFLOW_PARITY", Path(__file__).parent / "cases"))


@dataclass(frozen=True)
class Golden:
    """One case: how it was made, and what the official code gave."""

    name: str
    meta: dict[str, Any]
    arrays: dict[str, NDArray[Any]]


def cases(system: str, pattern: str) -> list[Path]:
    """Every case file (.json) of a system that fits a glob pattern; at least one."""
    files = sorted((CASES / system).glob(f"{pattern}.json"))
    assert files, f"no case {pattern} in {CASES / system}"
    return files


def load(path: Path) -> Golden:
    """A case by the path of its .json."""
    values = path.with_suffix(".npz")
    arrays = dict(np.load(values)) if values.exists() else {}
    return Golden(path.stem, json.loads(path.read_text()), arrays)


def manifest(system: str, name: str) -> Any:
    """The ordered keys, shapes and dtypes of an official checkpoint."""
    return json.loads((CASES / system / f"manifest_{name}.json").read_text())


def numbers(values: ArrayLike | torch.Tensor) -> NDArray[Any]:
    """A tensor of any device as an array."""
    return values.detach().cpu().numpy() if torch.is_tensor(values) else np.asarray(values)


def assert_close(
    name: str, ours: ArrayLike | torch.Tensor, golden: Golden, tolerance: float
) -> None:
    """Largest absolute difference within `tolerance`; knows the `__s4` and `__stats` reductions."""
    values = numbers(ours).astype(np.float64)
    if name in golden.arrays:
        _within(f"{golden.name} {name}", values, golden.arrays[name], tolerance)
        return
    _within(f"{golden.name} {name}", values[..., ::4, ::4], golden.arrays[f"{name}__s4"], tolerance)
    mean, deviation, low, high, _ = golden.arrays[f"{name}__stats"]
    ours_stats = [values.mean(), values.std(), values.min(), values.max()]
    _within(f"{golden.name} {name} stats", ours_stats, [mean, deviation, low, high], tolerance)


def _within(what: str, ours: ArrayLike, theirs: ArrayLike, tolerance: float) -> None:
    ours, theirs = np.asarray(ours, np.float64), np.asarray(theirs, np.float64)
    assert ours.shape == theirs.shape, f"{what}: shape {ours.shape}, golden {theirs.shape}"
    worst = float(np.abs(ours - theirs).max()) if ours.size else 0.0
    assert worst <= tolerance, f"{what}: differs by {worst:.3g}, tolerance {tolerance:.3g}"
