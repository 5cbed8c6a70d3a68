"""The plot of a sweep: the score of each combination of options."""

from collections.abc import Mapping, Sequence
from typing import Any

from stages.reporting.plots import add_legend, as_svg, legend_rows, line_styles, new_plot


def sweep_plot(
    split: str, entries: Sequence[Mapping[str, Any]], values: Mapping[str, Mapping[str, Any]]
) -> str:
    """An SVG of mIoU with its 95 % CI over the values of the first option.

    `entries` are metrics of the experiments of a sweep on one split, `values` their options. Each
    combination of the other options is a line.
    """
    option = next(iter(values[entries[0]["experiment"]]))
    ticks = list(dict.fromkeys(str(values[entry["experiment"]][option]) for entry in entries))
    lines: dict[str, list[tuple[int, Mapping[str, float]]]] = {}
    for entry in entries:
        own = values[entry["experiment"]]
        name = ", ".join(f"{key} {value}" for key, value in own.items() if key != option)
        lines.setdefault(name or "mIoU", []).append(
            (ticks.index(str(own[option])), entry["scores"])
        )
    figure, axes = new_plot(legend_rows(len(lines)))
    for (name, points), style in zip(lines.items(), line_styles(lines).values(), strict=True):
        places = [place for place, _ in points]
        mean = [100 * scores["mean_iou"] for _, scores in points]
        below = [100 * (scores["mean_iou"] - scores["mean_iou_low"]) for _, scores in points]
        above = [100 * (scores["mean_iou_high"] - scores["mean_iou"]) for _, scores in points]
        style |= {"linewidth": 1.4, "capsize": 3}
        axes.errorbar(places, mean, yerr=[below, above], label=name, **style)
    axes.set(title=f"Sweep, {split}", xlabel=option, ylabel="mIoU (%), 95 % CI")
    axes.set_xticks(range(len(ticks)), ticks)
    add_legend(figure)
    return as_svg(figure, f"mIoU of the sweep on {split}")
