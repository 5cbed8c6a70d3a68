"""Train TRIS stage 1: response maps from images and their expressions, without any mask."""

from pathlib import Path

import torch

from stages.config.encoders import JudgeSource
from stages.config.section import Execution
from stages.config.steps import Stage1
from stages.data.dataset import ReferringDataset
from stages.data.text import load_tokenizer
from stages.inference.panel import validation_panel
from stages.inference.validation import make_selection
from stages.models.initial import initial_weights, start_from
from stages.models.judge import load_judge
from stages.models.saved import STAGE1, describe
from stages.models.tris import Stage1Trainer, TrisStage1, build_stage1
from stages.runtime.command_line import main
from stages.storage.tables import read_samples, sample_files
from stages.storage.weights import load_weights
from stages.training.checkpoint import fingerprint
from stages.training.engine import fit
from stages.training.provenance import write_provenance

VERSION = 3


def run(
    samples: Path,
    features: Path,
    model: Path,
    config: Stage1,
    judge: JudgeSource,
    images: Path | None = None,
    initialize: Path | None = None,
    execution: Execution | None = None,
    name: str | None = None,
) -> None:
    """`images` are those of resize_images; without them they are decoded here.

    `initialize` is a model file or an official checkpoint to start from; without it, the weights of
    CLIP. Masks are read only for `validation`, where the options have it. `name` is that of the
    run, for trackers.
    """
    torch.manual_seed(config.seed)  # of the new layers
    texts = load_weights(features)[0]["text"]
    tokenizer, everything = load_tokenizer(config.clip), read_samples(samples)
    data = ReferringDataset(
        everything.split("train"),
        tokenizer,
        config.image_size,
        seed=config.seed,
        negatives=config.negatives if config.weight_negatives else 0,
        expressions_per_object=config.expressions_per_object,
        share_images=False,
        images=images,
    )
    start = initial_weights(config, initialize)
    stage1 = build_stage1(config, pretrained=start is None)
    if start is not None:
        start_from(start, stage1, STAGE1, config)
    trainable = Stage1Trainer(config, stage1, load_judge(judge), texts, tokenizer.unknown)
    resize_mode = TrisStage1.resize_mode
    selection = make_selection(
        config,
        everything,
        tokenizer,
        config.image_size,
        resize_mode,
        images=images,
        execution=execution,
    )
    files = [*sample_files(samples), features, *config.training_files, *judge.files]
    files += [initialize] if initialize is not None else []
    speed = fit(
        trainable,
        data,
        config,
        execution=execution or Execution(),
        output=model,
        fingerprint=fingerprint(config, files, judge),
        about=describe(STAGE1, config),
        name=name,
        panel=validation_panel(everything, tokenizer, config.image_size, resize_mode),
        selection=selection,
        first_epoch=config.first_epoch,
    )
    write_provenance(model, speed, selection)


if __name__ == "__main__":
    main(run)
