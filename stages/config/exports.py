"""What is written for people and for other tools, beside the page."""

from typing import Annotated, Literal

from pydantic import Field

from stages.config.section import Section

MaskFormat = Literal["png", "coco", "coco-panoptic", "cvat", "yolo", "labelme", "refer"]
MaskStage = Literal["response", "labels", "pseudo_masks", "assigned", "predictions", "ground_truth"]
# Of each stage: what has its masks (a name of Products.of_experiment).
STAGES: dict[MaskStage, str] = {
    "response": "maps",
    "labels": "labels",
    "pseudo_masks": "pseudo_masks",
    "assigned": "assigned",
    "predictions": "predictions/segmentor",
    "ground_truth": "samples",
}


class Masks(Section):
    """Masks for other tools, in `results/<experiment>/masks/`; `risflow masks` writes the same.

    They are made with the page, which links to them, and by the target `masks_<experiment>`.
    """

    formats: tuple[MaskFormat, ...] = ()  # none: nothing is written
    stages: tuple[MaskStage, ...] = ("predictions",)  # whose masks
    splits: tuple[Annotated[str, Field(pattern=r"^\w+$")], ...] = ()  # none: those of evaluation
