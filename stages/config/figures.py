"""Figures that scores are compared with: published ones and expected ranges."""

from typing import Annotated, Literal

from pydantic import Field

from stages.config.section import Section

Metric = Literal[  # those that the tables show
    "mean_iou",
    "overall_iou",
    "precision_50",
    "precision_70",
    "precision_90",
    "pointing_accuracy",
    "pointing_accuracy_mask",
    "box_iou",
    "box_accuracy",
    "g_iou",
    "c_iou",
    "n_acc",
    "t_acc",
]
Percent = Annotated[float, Field(ge=0, le=100)]


# Points around a published figure. Users of the official code told of retrainings that were 0.4 to
# 1.9 lower (ReLA, its issue 15), 1.2 lower (LAVT-RIS, 11) and 2.2 higher (ETRIS, 4).
RETRAINED = (-2.0, 2.0)


class Figures(Section):
    """What the scores of a segmentor are to be held against: split -> metric -> percent."""

    # Of the paper; `val: {}` makes a row whose figures are in no source that we could read.
    published: dict[str, dict[Metric, Percent]] = Field(default_factory=dict)
    expected: dict[str, dict[Metric, tuple[Percent, Percent]]] = Field(default_factory=dict)

    def ranges(self, split: str) -> dict[Metric, tuple[Percent, Percent]]:
        """What is expected: by what was measured, else as near to the paper as retrainings are."""
        low, high = RETRAINED
        published = self.published.get(split, {})
        around = {
            metric: (max(0.0, round(figure + low, 2)), min(100.0, round(figure + high, 2)))
            for metric, figure in published.items()
        }
        return self.expected.get(split, around)
