"""CRIS, ETRIS and DETRIS on the golden cases: built, filled, run, and what passed through them."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from stages.models.layers import QuerySegmentor
from tests.parity import recipes
from tests.parity.golden import Golden, cases, numbers

QUICK = (  # the cases of seed 0 that run by default; the others are marked slow
    "cris_r50_eval256x384_wl17",
    "etris_r50_eval256x384_wl17",
)
LONG = ("cris_r50_train320_wl22_f64", "etris_v16_train320_wl22_f64", "B17_s0_224")


def chosen(system: str, pattern: str) -> list[Any]:
    """Every case of a pattern as a parameter of a test, `slow` unless it is named above."""
    return [pytest.param(path, id=path.stem, marks=_marks(path)) for path in cases(system, pattern)]


def _marks(path: Path) -> Any:
    name = path.stem.removesuffix("_s0")
    if name in LONG:
        return pytest.mark.long
    return () if name in QUICK else pytest.mark.slow


def fill(model: nn.Module, seed: int) -> None:
    """Every float entry of the state from the recipe; counters stay at zero."""
    with torch.no_grad():
        for name, value in model.state_dict().items():
            if value.is_floating_point():
                value.copy_(torch.from_numpy(recipes.parameter(name, tuple(value.shape), seed)))


def without_dropout(model: nn.Module) -> nn.Module:
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
        if isinstance(module, nn.MultiheadAttention):
            module.dropout = 0.0
    return model


@contextmanager
def recorded(model: QuerySegmentor) -> Iterator[dict[str, Tensor]]:
    """What goes into and out of neck and decoder during a forward pass, by its golden name."""
    seen: dict[str, Tensor] = {}

    def neck_sees(_module: nn.Module, inputs: Any) -> None:
        maps, seen["state"] = inputs[:2]
        for number, features in enumerate(maps, 3):
            seen[f"v{number}"] = features

    def decoder_sees(_module: nn.Module, inputs: Any) -> None:
        seen["word"] = inputs[1]

    hooks = [
        model.neck.register_forward_pre_hook(neck_sees),
        model.neck.register_forward_hook(lambda *call: seen.__setitem__("neck", call[2])),
        model.decoder.register_forward_pre_hook(decoder_sees),
        model.decoder.register_forward_hook(lambda *call: seen.__setitem__("decoder", call[2])),
    ]
    try:
        yield seen
    finally:
        for hook in hooks:
            hook.remove()


def probe(values: Tensor) -> NDArray[np.float64]:
    """Up to 64 even samples, mean, population standard deviation, Euclidean norm."""
    flat = numbers(values).astype(np.float64).ravel()
    count = min(64, flat.size)
    places = torch.linspace(0, flat.size - 1, count, dtype=torch.float64).long().numpy()
    rest = [flat.mean(), flat.std(), np.sqrt((flat**2).sum())]
    return np.concatenate([flat[places], rest])


def assert_probes(seen: dict[str, Tensor], golden: Golden, tolerance: float) -> None:
    """Samples, mean and deviation within `tolerance` deviations, the norm in proportion."""
    for name, values in seen.items():
        theirs = golden.arrays[f"probe_{name}"].astype(np.float64)
        ours = probe(values)
        worst = float(np.abs(ours - theirs)[:-1].max() / theirs[-2])
        assert worst <= tolerance, f"{golden.name} {name}: {worst:.3g} deviations"
        assert abs(ours[-1] / theirs[-1] - 1) <= tolerance, f"{golden.name} norm of {name}"


def gradient_norms(model: nn.Module, names: list[str]) -> NDArray[np.float64]:
    """NaN where a parameter has no gradient."""
    parameters = dict(model.named_parameters())
    assert sorted(parameters) == sorted(names)
    gradients = [parameters[name].grad for name in names]
    return np.array([float("nan") if g is None else float(g.double().norm()) for g in gradients])


def assert_norms(
    what: str, ours: NDArray[np.float64], theirs: NDArray[np.float64], relative: float, floor: float
) -> None:
    """Within `relative` of each, and `floor` of all together."""
    np.testing.assert_array_equal(np.isnan(ours), np.isnan(theirs))
    allowed = relative * theirs + floor * float(np.sqrt(np.nansum(theirs**2)))
    wrong = np.flatnonzero(np.abs(ours - theirs) > allowed)
    assert not len(wrong), (what, [(int(i), ours[i], theirs[i]) for i in wrong[:5]])
