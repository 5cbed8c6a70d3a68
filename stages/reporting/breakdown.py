"""IoU by kind and length of expression and by size of object; and groups of failures."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd

from stages.metrics.bootstrap import mean_interval
from stages.metrics.failures import GROUPS, shares
from stages.reporting.plots import add_legend, as_svg, legend_rows, new_plot

Series = Mapping[str, pd.DataFrame]  # name -> scored expressions (see stages/evaluate.py)

WORDS = (1, 2, 3, 4, 5, 7, 10, 15)  # the first number of words of each bin
AREAS = (0.0, 1.0, 2.0, 5.0, 10.0, 20.0, 40.0)  # percent of the image, likewise
GROUP_COLORS = dict(
    zip(GROUPS, ("#009e73", "#d55e00", "#e69f00", "#56b4e9", "#404040"), strict=True)
)
RESAMPLES = 500  # enough for a line of a few pixels
MOST_INTERVALS = 5  # with more lines, intervals would cover each other


def breakdowns(series: Series, styles: Mapping[str, dict[str, Any]]) -> list[str]:
    """SVGs of mean IoU by kind, number of words, and area of the object."""
    first = next(iter(series.values()))
    plots = []
    if first["kind"].nunique() > 1:
        order = sorted(first["kind"].dropna().unique())
        plots.append(_plot("IoU by kind of expression", "", series, styles, "kind", order))
    words = {name: _binned(table, table["words"], WORDS) for name, table in series.items()}
    plots.append(
        _plot("IoU by length of expression", "words", words, styles, "bin", bin_names(WORDS))
    )
    if first["no_target"].all():
        return plots
    present = {name: table[~table["no_target"]] for name, table in series.items()}
    areas = {name: _binned(t, 100 * t["area"], AREAS, whole=False) for name, t in present.items()}
    names = bin_names(AREAS, whole=False)
    plots.append(_plot("IoU by size of object", "% of the image", areas, styles, "bin", names))
    return plots


def bin_names(starts: Sequence[float], whole: bool = True) -> list[str]:
    """Names of bins that begin at `starts`; bins of whole numbers include their last number."""
    names = []
    for low, high in pairwise(starts):
        end = high - 1 if whole else high
        names.append(f"{low:g}" if end == low else f"{low:g}\N{EN DASH}{end:g}")
    return [*names, f"{starts[-1]:g} or more"]


def bins(values: pd.Series, starts: Sequence[float], whole: bool = True) -> list[str]:
    """The name of the bin of each value; smaller values are in the first bin."""
    names = bin_names(starts, whole)
    indices = np.searchsorted(starts, values.to_numpy(), side="right") - 1
    return [names[max(0, index)] for index in indices]


def _binned(
    table: pd.DataFrame, values: pd.Series, starts: Sequence[float], whole: bool = True
) -> pd.DataFrame:
    return table.assign(bin=bins(values, starts, whole))


def _plot(
    title: str,
    unit: str,
    series: Series,
    styles: Mapping[str, dict[str, Any]],
    column: str,
    order: Sequence[str],
) -> str:
    first = next(iter(series.values()))
    counts = first[column].value_counts()
    present = [name for name in order if counts.get(name, 0)]
    figure, axes = new_plot(legend_rows(len(series)))
    aside = min(0.08, 0.3 / len(series))  # so that intervals do not cover each other
    for number, (name, table) in enumerate(series.items()):
        parts = [table[table[column] == value] for value in present]
        places = np.arange(len(present)) + aside * (number - (len(series) - 1) / 2)
        means = np.array([100 * subset["iou"].mean() for subset in parts])
        axes.plot(places, means, label=name, linewidth=1, ms=4, **styles[name])
        if len(series) <= MOST_INTERVALS:
            limits = [mean_interval(p["iou"], p["image"], resamples=RESAMPLES) for p in parts]
            low, high = 100 * np.array(limits).T
            axes.vlines(places, low, high, color=styles[name]["color"], linewidth=1)
    labels = [f"{value}\nn = {counts[value]}" for value in present]
    axes.set_xticks(range(len(present)), labels, fontsize=8)
    axes.set(title=title, xlabel=unit, ylabel="mean IoU (%)", ylim=(0, 100))
    axes.set_xlim(-0.5, len(present) - 0.5)
    add_legend(figure)
    return as_svg(figure, title)


def failure_bars(title: str, series: Series) -> str:
    """An SVG of the share of each group of failures, a bar for each of the named tables."""
    figure, axes = new_plot(3 + len(series) // 2)
    names = list(series)
    left = np.zeros(len(names))
    group_shares = [shares(table["group"].tolist()) for table in series.values()]
    for group in GROUPS:
        widths = np.array([100 * row[group] for row in group_shares])
        label = group.replace("_", " ")
        color = GROUP_COLORS[group]
        bars = axes.barh(names, widths, left=left, color=color, edgecolor="white", label=label)
        texts = [f"{width:.0f}" if width >= 6 else "" for width in widths]
        ink = "white" if group == "nothing" else "black"
        axes.bar_label(bars, texts, label_type="center", fontsize=8, color=ink)
        left += widths
    axes.set(title=title, xlabel="expressions (%)", xlim=(0, 100))
    axes.invert_yaxis()
    axes.grid(axis="y", visible=False)
    add_legend(figure)
    return as_svg(figure, title)
