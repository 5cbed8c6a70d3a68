"""Curves: losses over epochs, and precision over thresholds."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike

from stages.metrics.iou import precision
from stages.reporting.plots import BLACK, add_legend, as_svg, legend_rows, line_styles, new_plot

NOT_LOSSES = ("step", "epoch", "learning_rate")
THRESHOLDS = np.linspace(0, 1, 51)


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
