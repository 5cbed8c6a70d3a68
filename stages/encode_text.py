"""Features of all expressions of a data set from a frozen CLIP, computed once.

Row e of the result `text` (E, D) is the unit feature of expression e.
"""

import logging
from pathlib import Path

import torch
import torch.nn.functional as F

from stages.backbones.clip import frozen, load_clip
from stages.config.encoders import JudgeSource
from stages.data.text import load_tokenizer
from stages.runtime.command_line import main
from stages.runtime.device import choose_device
from stages.storage.tables import read_samples
from stages.storage.weights import save_weights

BATCH = 256  # expressions

VERSION = 1

log = logging.getLogger(__name__)


@torch.inference_mode()
def run(samples: Path, features: Path, clip: JudgeSource) -> None:
    of_expression, texts = read_samples(samples).expressions.text.factorize()
    device = choose_device()
    model = frozen(load_clip(clip)).to(device)
    tokens = load_tokenizer(clip)(texts.tolist())
    rows = [model.encode_text(batch.to(device))[1].float().cpu() for batch in tokens.split(BATCH)]
    text = F.normalize(torch.cat(rows)[torch.from_numpy(of_expression)], dim=1)  # (E, D)
    save_weights(features, {"text": text}, {"clip": clip.model_dump_json()})
    log.info("%d expressions encoded, %d different texts", len(of_expression), len(texts))


if __name__ == "__main__":
    main(run)
