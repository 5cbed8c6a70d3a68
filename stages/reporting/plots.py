"""Style of all plots, and figures as SVG; equal numbers give equal SVG.

Colors are those of Okabe and Ito, which color-blind people can distinguish; lines also differ in
marker and dash.
"""

import io
from collections.abc import Iterable
from html import escape
from typing import Any

import matplotlib

matplotlib.use("svg")
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

BLACK = "#000000"
COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", BLACK)
DASHES = ("-", "--", ":", "-.")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
STYLE: dict[Any, Any] = {
    "svg.hashsalt": "risflow",  # otherwise ids are random
    "svg.fonttype": "none",  # text stays text, which can be searched and read aloud
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.grid": True,
    "grid.color": "#e4e4e4",
    "grid.linewidth": 0.7,
}
matplotlib.rcParams.update(STYLE)
WIDTH, HEIGHT = 4.2, 2.5  # inches of a plot without its legend
LEGEND_ROW = 0.19


def new_plot(rows_of_legend: int = 0) -> tuple[Figure, Axes]:
    """A figure with one plot and room for a legend below."""
    return plt.subplots(figsize=(WIDTH, HEIGHT + LEGEND_ROW * rows_of_legend), layout="constrained")


def line_styles(names: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Color, dash and marker of the line of each name."""
    styles = {}
    for number, name in enumerate(names):
        turn, place = divmod(number, len(COLORS))
        styles[name] = {
            "color": COLORS[place],
            "linestyle": DASHES[turn % len(DASHES)],
            "marker": MARKERS[place],
        }
    return styles


def legend_rows(labels: int) -> int:
    """Rows of a legend of two columns."""
    return (labels + 1) // 2


def add_legend(figure: Figure) -> None:
    """A legend below the plot, so that the plot keeps its width on a phone."""
    figure.legend(loc="outside lower center", ncol=2, frameon=False, fontsize=8, handlelength=2.4)


def as_svg(figure: Figure, title: str) -> str:
    """The SVG element of a figure, which is closed; `title` is read by screen readers."""
    text = io.StringIO()
    figure.savefig(text, format="svg", metadata={"Date": None})
    plt.close(figure)
    svg = text.getvalue()[text.getvalue().index("<svg") :]
    return svg.replace("<svg ", f'<svg role="img" aria-label="{escape(title)}" ', 1)
