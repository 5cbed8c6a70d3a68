"""Losses that are numbers."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from stages.runtime.errors import InputError


def require_finite(
    table: NDArray[np.float64], names: Sequence[str], first_step: int, steps_per_epoch: int
) -> None:
    """Raise InputError that names the first step of a table (steps, losses) with another value."""
    bad = np.flatnonzero(~np.isfinite(table).all(axis=1))
    if bad.size == 0:
        return
    step = first_step + int(bad[0])
    row = zip(names, table[bad[0]], strict=True)
    values = ", ".join(f"{name} {value:.4g}" for name, value in row)
    raise InputError(
        f"epoch {step // steps_per_epoch}, step {step}: loss is not finite ({values});"
        " lower learning_rate, set max_grad_norm, or use precision: float32"
    )
