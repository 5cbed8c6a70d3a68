"""Loss curves as SVG, to be put into the page."""

import io
from collections.abc import Sequence

import matplotlib

matplotlib.use("svg")
from matplotlib import pyplot as plt

matplotlib.rcParams["svg.hashsalt"] = "risflow"  # else ids are random, and the page never the same
NOT_LOSSES = ("step", "epoch", "learning_rate")
COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")  # Okabe and Ito


def loss_curve(title: str, history: Sequence[dict[str, float]]) -> str:
    """An SVG of all losses of one training over its epochs."""
    figure, axes = plt.subplots(figsize=(5.6, 2.8), layout="constrained")
    names = [name for name in history[0] if name not in NOT_LOSSES]
    epochs = [row["epoch"] for row in history]
    marker = "o" if len(history) == 1 else None  # a line of one point is not seen
    parts = [name for name in names if name != "loss"]
    losses = [row["loss"] for row in history]
    axes.plot(epochs, losses, color="black", label="loss", linewidth=2, marker=marker)
    for name, color in zip(parts, COLORS * len(parts), strict=False):
        label = name.replace("_", " ")
        values = [row[name] for row in history]
        axes.plot(epochs, values, color=color, label=label, linewidth=1.2, marker=marker)
    axes.set(title=title, xlabel="epoch", ylabel="loss")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize="small", loc="upper left", bbox_to_anchor=(1, 1))
    text = io.StringIO()
    figure.savefig(text, format="svg", metadata={"Date": None})
    plt.close(figure)
    return text.getvalue()[text.getvalue().index("<svg") :]
