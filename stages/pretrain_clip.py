"""Train the small CLIP of RefShapes from nothing, on generated scenes of its own.

Its random streams are not those of the data set. Besides images and texts it uses where the items
are (stages/data/shapes/pairs.py): point supervision of the judge, which is why results on
RefShapes are a demonstration, not a benchmark.

Writes the weights in half precision, the description that `ClipSource` reads (architecture and
vocabulary), and a record of how they were made and of what they know.
"""

import logging
import shlex
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stages.backbones.clip import Clip, frozen
from stages.config.section import Execution, Training
from stages.config.steps import PretrainClip
from stages.data.shapes.pretraining import ContrastivePairs
from stages.data.shapes.words import vocabulary
from stages.data.text import SPECIAL, WordTokenizer
from stages.inference.clip_probes import judge_accuracy, linear_probes, see_items
from stages.runtime.command_line import main
from stages.runtime.distributed import process_count
from stages.runtime.errors import InputError
from stages.storage.files import write_json
from stages.storage.weights import load_weights, save_weights
from stages.training.checkpoint import fingerprint
from stages.training.engine import fit

IMAGE_SIZE = 96
OUTPUT_STRIDE = 8  # a map of 12 x 12 cells
CONTEXT_LENGTH = 20
MAX_LOGIT_SCALE = float(np.log(100.0))
TEST_SCENES = 200
FITTED_SCENES = 800  # further ones, that the probes are fitted on
PAIR_WEIGHT = 2.0  # of what only places tell apart

log = logging.getLogger(__name__)


class ContrastiveTrainer(nn.Module):
    """InfoNCE both ways (Radford et al., ICML 2021); pairs that fit by chance do not contrast."""

    def __init__(self, clip: Clip) -> None:
        super().__init__()
        # On a CPU this layout is a third faster.
        self.clip = clip.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Losses of images (B, 3, S, S), tokens (T B + D, L), rivals (T, B, B), turned, twins."""
        with torch.no_grad():
            self.clip.logit_scale.clamp_(max=MAX_LOGIT_SCALE)
        images, texts, scale = self.clip(batch["images"], batch["tokens"])
        sets, count = batch["rivals"].shape[:2]
        texts, opposites = texts[: sets * count], texts[sets * count :]
        scores = (scale * images @ texts.view(sets, count, -1).mT).float()  # (T, B, B)
        logits = scores.masked_fill(~batch["rivals"], float("-inf"))
        own = torch.arange(count, device=logits.device).expand(sets, count)
        # Of images over texts, and of texts over images.
        loss = (F.cross_entropy(logits.mT, own) + F.cross_entropy(logits, own)) / 2
        # Among so many other texts, two that differ in a place alone would hardly count.
        turned, twins = batch["turned"], batch["twins"]
        if len(turned):
            text, image = turned.T
            wrong = (scale * (images[image] * opposites).sum(dim=1)).float()
            loss = loss + PAIR_WEIGHT * F.softplus(wrong - scores[text, image, image]).mean()
        if len(twins):
            text, first, second = twins.T
            wrong = scores[text, second, first]
            loss = loss + PAIR_WEIGHT * F.softplus(wrong - scores[text, first, first]).mean()
        right = (logits.argmax(dim=2) == own).float().mean()
        return {"loss": loss, "right_text": right}

    def parameter_groups(self, config: Training) -> list[dict[str, Any]]:
        """Weight decay for matrices only, as in CLIP."""
        matrices = [p for p in self.clip.parameters() if p.ndim > 1]
        others = [p for p in self.clip.parameters() if p.ndim <= 1]
        return [
            {"params": matrices, "lr": config.learning_rate},
            {"params": others, "lr": config.learning_rate, "weight_decay": 0.0},
        ]

    def kept(self) -> nn.Module:
        return self.clip


def describe_clip(config: PretrainClip) -> dict[str, Any]:
    """The description of the small CLIP, in open_clip's terms, and its vocabulary."""
    words = vocabulary()
    places = {"coordinates": True} if config.places else {}
    return {
        "embed_dim": config.embedding,
        "vision_cfg": {
            "image_size": IMAGE_SIZE,
            "layers": [1, 1, 1, 1],
            "width": config.width,
            "head_width": 32,
            **places,
        },
        "text_cfg": {
            "context_length": CONTEXT_LENGTH,
            "vocab_size": len(words) + SPECIAL,
            "width": config.text_width,
            "heads": 4,
            "layers": 2,
        },
        "vocabulary": words,
    }


def run(
    weights: Path,
    model: Path,
    record: Path,
    work: Path,
    config: PretrainClip,
    execution: Execution | None = None,
) -> None:
    """Train, test, and write `weights` (.safetensors), `model` (.json) and `record` (.json).

    `work` is the folder of the resume state and of the curves. Raises InputError for more than one
    process, whose pairs would not contrast.
    """
    if process_count() > 1:
        raise InputError(f"{process_count()} processes; needed one")
    started = time.process_time()
    torch.manual_seed(config.seed)
    description = describe_clip(config)
    tokenizer = WordTokenizer(description["vocabulary"], CONTEXT_LENGTH)
    clip = Clip(description, OUTPUT_STRIDE)
    trained = work / "model.safetensors"
    fit(
        ContrastiveTrainer(clip),
        ContrastivePairs(config, tokenizer, IMAGE_SIZE),
        config,
        execution=execution or Execution(),
        output=trained,
        fingerprint=fingerprint(config, []),
        about={"what": "small CLIP in training"},
    )
    state = {name: tensor.half() for name, tensor in load_weights(trained)[0].items()}
    clip.load_state_dict({name: tensor.float() for name, tensor in state.items()})
    clip = frozen(clip).cpu()
    seen = see_items(clip, config.seed, range(TEST_SCENES))
    fitted = see_items(clip, config.seed, range(TEST_SCENES, TEST_SCENES + FITTED_SCENES))
    accuracy, probes = judge_accuracy(clip, tokenizer, seen), linear_probes(seen, fitted)
    save_weights(weights, state, {"what": "small CLIP of RefShapes", "model": model.name})
    write_json(model, description)
    write_json(
        record,
        {
            "command": shlex.join(["python", "-m", "stages.pretrain_clip", *sys.argv[1:]]),
            "config": config.model_dump(mode="json"),
            "parameters": sum(p.numel() for p in clip.parameters()),
            "cpu_seconds": round(time.process_time() - started),
            "test_scenes": TEST_SCENES,
            "accuracy": {name: round(value, 4) for name, value in accuracy.items()},
            "fitted_scenes": FITTED_SCENES,
            "probes": {name: round(value, 4) for name, value in probes.items()},
        },
    )
    log.info("%s: accuracy %s, probes %s", weights, accuracy, probes)


if __name__ == "__main__":
    main(run)
