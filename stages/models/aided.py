"""A segmentor that learns from more than its masks: contrast in an image, and a masked view.

Both are options that the published trainings do not have (stages/models/contrast.py and
masked_view.py). With a masked view the model also sees less of the batch, and learns there from its
own prediction of the whole batch: by its own loss, with soft masks.
"""

from typing import Any, Protocol, cast

from torch import Tensor, nn

from stages.config.section import Training
from stages.config.segmentors import AnySegmentor
from stages.models.contrast import contrast_loss
from stages.models.masked_view import Hiding, measuring_nothing


class Learner(Protocol):
    """A segmentor that tells what it predicts while it learns."""

    def learn(self, batch: dict[str, Tensor]) -> tuple[dict[str, Tensor], Tensor]:
        """Losses, and the mask logits (T, S, S) that they are of."""

    def parameter_groups(self, config: Training) -> list[dict[str, Any]]: ...


class AidedSegmentor(nn.Module):
    """`unknown` is the token that says nothing, of hidden words."""

    def __init__(self, model: nn.Module, config: AnySegmentor, unknown: int) -> None:
        super().__init__()
        self.model, self.config = model, config
        is_masked = config.masked_view.weight > 0
        self.hiding = Hiding(config.masked_view, unknown) if is_masked else None

    @property
    def _learner(self) -> Learner:
        return cast(Learner, self.model)

    def forward(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """The losses of the segmentor, `contrast`, `masked_view`, and their weighted sum."""
        named, logits = self._learner.learn(batch)
        loss = named["loss"]
        if self.hiding is not None:
            share = self.config.masked_view.weight
            view = {**self.hiding(batch), "masks": logits.detach().sigmoid()}
            with measuring_nothing(self.model):
                named["masked_view"] = self._learner.learn(view)[0]["loss"]
            loss = (1 - share) * loss + share * named["masked_view"]
        if self.config.contrast:
            named["contrast"] = contrast_loss(
                logits.flatten(1),
                batch["masks"].flatten(1) > 0,
                batch["of_image"],
                batch["of_object"],
            )
            loss = loss + self.config.contrast * named["contrast"]
        return {**named, "loss": loss}

    def kept(self) -> nn.Module:
        """The trained module: the segmentor."""
        return self.model

    def parameter_groups(self, config: Training) -> list[dict[str, Any]]:
        """Those of the segmentor, and the color of what is hidden."""
        groups = self._learner.parameter_groups(config)
        if self.hiding is None:
            return groups
        color = {"params": [self.hiding.color], "lr": config.learning_rate, "weight_decay": 0.0}
        return [*groups, color]
