"""The plots of a split, the same in a report and in a comparison."""

from dataclasses import dataclass

from stages.reporting.breakdown import Series, breakdowns, failure_bars
from stages.reporting.curves import precision_curve
from stages.reporting.plots import line_styles


@dataclass(frozen=True)
class Analysis:
    """The plots of one split of one data set, as SVG."""

    title: str
    plots: list[str]


def analyze(title: str, series: Series, broken_down: Series | None = None) -> Analysis:
    """Precision, groups of failures, IoU by expression; the latter of `broken_down`, if given."""
    ious = {name: table["iou"].to_numpy() for name, table in series.items()}
    plots = [
        precision_curve("Precision over the threshold", ious),
        failure_bars("Right and wrong predictions", series),
        *breakdowns(broken_down or series, line_styles(series)),
    ]
    return Analysis(title, plots)
