"""An official checkpoint of a segmentor as a model file like our own, to predict with and score."""

import logging
from pathlib import Path

from stages.backbones.weights import load_exactly, read_weights
from stages.core.command import main
from stages.core.config import ClipSource
from stages.core.segmentors import AnySegmentor
from stages.models.saved import build_segmentor, describe
from stages.training.checkpoint import save_weights
from stages.training.facts import write_facts

log = logging.getLogger(__name__)


def run(checkpoint: Path, model: Path, config: AnySegmentor, clip: ClipSource) -> None:
    """`config` and `clip` are those of the published row; the file's weights must fit exactly.

    Raises InputError that names the first weight that is missing, surplus or misshapen.
    """
    state = read_weights(checkpoint)
    if config.model == "rela":
        from stages.models.rela import official_weights

        state = official_weights(state)
    segmentor = build_segmentor(config, clip, pretrained=False)
    load_exactly(segmentor, state, checkpoint)
    save_weights(model, segmentor.state_dict(), describe(config.model, config, clip))
    write_facts(model)
    log.info("%s: %d weights of %s", model, len(state), config.model)


if __name__ == "__main__":
    main(run)
