"""An official checkpoint as a model file like our own: of a segmentor, or of TRIS stage 1."""

import logging
from pathlib import Path

from stages.config.segmentors import AnySegmentor
from stages.config.steps import Stage1
from stages.models.official import read_official
from stages.models.saved import STAGE1, build, describe
from stages.runtime.command_line import main
from stages.runtime.errors import InputError
from stages.storage.matching import load_exactly
from stages.storage.weights import save_weights
from stages.training.provenance import write_provenance

VERSION = 1

log = logging.getLogger(__name__)


def run(
    checkpoint: Path,
    model: Path,
    config: AnySegmentor | None = None,
    stage1: Stage1 | None = None,
) -> None:
    """The options are those of the published row: `config` of a segmentor, else `stage1`.

    The file's weights must fit exactly. Raises InputError that names the first weight that is
    missing, surplus or misshapen.
    """
    if (config is None) == (stage1 is None):
        raise InputError("import: needed --config of a segmentor, or --stage1, and not both")
    kind = config.model if config is not None else STAGE1
    chosen = config if config is not None else stage1
    assert chosen is not None
    state = read_official(checkpoint, kind)
    network = build(kind, chosen, pretrained=False)
    load_exactly(network, state, checkpoint)
    save_weights(model, network.state_dict(), describe(kind, chosen))
    write_provenance(model)
    log.info("%s: %d weights of %s", model, len(state), kind)


if __name__ == "__main__":
    main(run)
