"""Train TRIS stage 1: response maps from images and their expressions, without any mask."""

from pathlib import Path

import torch

from stages.backbones.clip import load_clip
from stages.config.encoders import ClipSource
from stages.config.steps import Stage1
from stages.data.dataset import ReferringDataset
from stages.data.text import load_tokenizer
from stages.inference.panel import validation_panel
from stages.models.saved import STAGE1, describe
from stages.models.tris import Stage1Trainer, TrisStage1
from stages.runtime.command_line import main
from stages.storage.tables import read_samples, sample_files
from stages.storage.weights import load_weights
from stages.training.checkpoint import fingerprint
from stages.training.engine import fit
from stages.training.provenance import write_facts


def run(
    samples: Path,
    features: Path,
    model: Path,
    config: Stage1,
    clip: ClipSource,
    judge: ClipSource,
    images: Path | None = None,
) -> None:
    """`images` are those of resize_images; without them they are decoded here."""
    torch.manual_seed(config.seed)  # of the new layers
    texts = load_weights(features)[0]["text"]
    tokenizer, everything = load_tokenizer(clip), read_samples(samples)
    data = ReferringDataset(
        everything.split("train"),
        tokenizer,
        config.image_size,
        seed=config.seed,
        negatives=config.negatives if config.weight_negatives else 0,
        share_images=False,
        images=images,
    )
    trainable = Stage1Trainer(config, TrisStage1(config, load_clip(clip)), load_clip(judge), texts)
    files = [*sample_files(samples), features, *clip.files, *judge.files]
    fit(
        trainable,
        data,
        config,
        output=model,
        fingerprint=fingerprint(config, files, clip, judge),
        about=describe(STAGE1, config, clip),
        panel=validation_panel(everything, tokenizer, config.image_size, TrisStage1.framing),
    )
    write_facts(model)


if __name__ == "__main__":
    main(run)
