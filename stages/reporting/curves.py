"""Curves: losses and scores over epochs, and precision over thresholds."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from stages.metrics.iou import precision
from stages.reporting.plots import BLACK, add_legend, as_svg, legend_rows, line_styles, new_plot

SCORES = {"mean_iou": "mIoU", "overall_iou": "oIoU", "precision_50": "P@0.5"}
NOT_LOSSES = ("step", "epoch", "learning_rate")
THRESHOLDS = np.linspace(0, 1, 51)


def training_curves(title: str, history: Sequence[dict[str, Any]]) -> list[str]:
    """The SVGs of one training: its losses, and its validations if it has any."""
    losses = [row for row in history if "loss" in row]
    validations = [row for row in history if "kept" in row]
    curves = [loss_curve(title, losses)]
    return [*curves, validation_curve(title, validations)] if validations else curves


def validation_curve(title: str, validations: Sequence[dict[str, Any]]) -> str:
    """An SVG of the scores after each epoch; a line shows the epoch whose weights are kept."""
    figure, axes = new_plot(legend_rows(1 + len(SCORES)))
    epochs = [row["epoch"] for row in validations]
    for name, style in line_styles(SCORES).items():
        values = [100 * row[name] for row in validations]
        axes.plot(epochs, values, label=SCORES[name], linewidth=1.4, ms=4, **style)
    kept = next(row for row in validations if row["kept"])
    label = f"kept: epoch {kept['epoch']} (mIoU {100 * kept['mean_iou']:.1f} %)"
    axes.axvline(kept["epoch"], color=BLACK, linewidth=1, linestyle=":", label=label)
    axes.set(title=f"{title} on {kept['split']}", xlabel="epoch", ylabel="percent", ylim=(0, None))
    add_legend(figure)
    return as_svg(figure, f"scores of {title} on {kept['split']} during training")


def loss_curve(title: str, history: Sequence[dict[str, float]]) -> str:
    """An SVG of all losses of one training over its epochs."""
    parts = [name for name in history[0] if name not in (*NOT_LOSSES, "loss")]
    figure, axes = new_plot(legend_rows(1 + len(parts)))
    epochs = [row["epoch"] for row in history]
    marker = "o" if len(history) == 1 else None  # a line of one point is not seen
    losses = [row["loss"] for row in history]
    axes.plot(epochs, losses, color=BLACK, label="loss (weighted sum)", linewidth=2, marker=marker)
    for name, style in line_styles(parts).items():
        values = [row[name] for row in history]
        style["marker"] = marker
        axes.plot(epochs, values, label=name.replace("_", " "), linewidth=1.2, **style)
    axes.set(title=title, xlabel="epoch", ylabel="loss", ylim=(min(0, min(losses)), None))
    add_legend(figure)
    return as_svg(figure, f"losses of {title}")


def precision_curve(title: str, ious: Mapping[str, ArrayLike]) -> str:
    """An SVG of P@X over X, a line for each of the named IoUs (N)."""
    figure, axes = new_plot(legend_rows(len(ious)))
    for name, style in line_styles(ious).items():
        shares = [100 * precision(ious[name], threshold) for threshold in THRESHOLDS]
        axes.plot(THRESHOLDS, shares, label=name, linewidth=1.4, markevery=10, ms=4, **style)
    axes.set(title=title, xlabel="IoU threshold X", ylabel="P@X: expressions above X (%)")
    axes.set(xlim=(0, 1), ylim=(0, 100))
    add_legend(figure)
    return as_svg(figure, title)
