"""Train a segmentor on pseudo masks, or on the true masks of its data set."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

import torch
from torch import nn

from stages.config.section import Execution, OnCollapse
from stages.config.segmentors import AnySegmentor
from stages.data.dataset import ReferringDataset
from stages.data.text import Tokenizer
from stages.data.wordpiece import load_model_tokenizer
from stages.inference.panel import validation_panel
from stages.inference.validation import make_selection
from stages.models.aided import AidedSegmentor
from stages.models.initial import initial_weights, start_from
from stages.models.saved import Predictor, build_segmentor, describe
from stages.models.tris import TaughtTris, TrisSegmentor
from stages.runtime.command_line import main
from stages.runtime.errors import InputError
from stages.storage.collapse import Tally
from stages.storage.masks import area
from stages.storage.tables import Samples, read_samples, read_table, sample_files
from stages.training.checkpoint import fingerprint
from stages.training.engine import fit
from stages.training.provenance import write_provenance

VERSION = 3

log = logging.getLogger(__name__)


def run(
    samples: Path,
    model: Path,
    config: AnySegmentor,
    masks: Sequence[Path] = (),
    images: Path | None = None,
    initialize: Path | None = None,
    execution: Execution | None = None,
    name: str | None = None,
) -> None:
    """Without `masks` (the shards of pseudo masks) the true masks of the samples are learned.

    `images` are those of resize_images; without them they are decoded here. `initialize` is a model
    file or an official checkpoint to start from; without it, the published weights of the encoders.
    `name` is that of the run, for trackers.
    """
    execution = execution or Execution()
    learned = _pseudo_masks(masks, execution.on_collapse) if masks else None
    torch.manual_seed(config.seed)  # of the new layers
    start = initial_weights(config, initialize)
    segmentor = build_segmentor(config, pretrained=start is None)
    if start is not None:
        start_from(start, segmentor, config.model, config)
    resize_mode = cast(Predictor, segmentor).resize_mode
    tokenizer = load_model_tokenizer(config)
    everything = read_samples(samples)
    train = everything.split("train")
    weights = None
    if learned is not None:
        train = _of_objects(train, learned, config.least_score)
        weights = _weights(train, learned) if config.weight_by_score else None
    data = ReferringDataset(
        train,
        tokenizer,
        config.image_size,
        resize_mode=resize_mode,
        text_field=config.text_field,
        seed=config.seed,
        expressions_per_object=config.expressions_per_object,
        masks=_true_masks(train) if learned is None else learned.masks,
        weights=weights,
        images=images,
    )
    selection = make_selection(
        config,
        everything,
        tokenizer,
        config.image_size,
        resize_mode,
        config.text_field,
        images,
        execution,
    )
    files = [*sample_files(samples), *masks, *config.training_files]
    speed = fit(
        trainer_of(segmentor, tokenizer),
        data,
        config,
        execution=execution,
        output=model,
        fingerprint=fingerprint(config, [*files, *([initialize] if initialize else [])]),
        about=describe(config.model, config),
        name=name,
        panel=validation_panel(
            everything, tokenizer, config.image_size, resize_mode, config.text_field
        ),
        selection=selection,
        first_epoch=config.first_epoch,
    )
    write_provenance(model, speed, selection)


def trainer_of(segmentor: nn.Module, tokenizer: Tokenizer) -> nn.Module:
    """What is trained: the segmentor, with the teacher or the aids that its options ask for."""
    config = cast(AnySegmentor, segmentor.config)
    if config.masked_view.weight or config.contrast:
        return AidedSegmentor(segmentor, config, tokenizer.unknown)
    if isinstance(segmentor, TrisSegmentor) and segmentor.config.consistency:
        return TaughtTris(segmentor)
    return segmentor


@dataclass(frozen=True)
class PseudoMasks:
    """Masks to learn from, and how certain each is, 0 to 1, by object."""

    masks: dict[int, str]
    scores: dict[int, float]


def _pseudo_masks(shards: Sequence[Path], on_collapse: OnCollapse) -> PseudoMasks:
    """The masks of all objects. Raises InputError if all are empty, unless that is wanted."""
    rows = read_table("masks", shards)
    tally = Tally("pseudo masks")
    for row in rows.itertuples():
        tally.add(area(row.mask, row.height, row.width), row.height * row.width)
    tally.require_some(", ".join(map(str, shards)), on_collapse)
    masks = dict(zip(rows.object.tolist(), rows["mask"].tolist(), strict=True))
    scores = dict(zip(rows.object.tolist(), rows.score.tolist(), strict=True))
    return PseudoMasks(masks, scores)


def _of_objects(samples: Samples, learned: PseudoMasks, least_score: float) -> Samples:
    """The samples without the objects whose masks are too uncertain. Raises InputError for none.

    That an object is absent is known of true masks only, and is not told with pseudo masks.
    """
    samples = replace(samples, objects=samples.objects.assign(no_target=False))
    uncertain = {key for key, score in learned.scores.items() if score < least_score}
    if not uncertain:
        return samples
    objects = samples.objects
    certain = objects[~objects.object.isin(uncertain)]
    if certain.empty:
        raise InputError(
            f"segmentor.least_score: {least_score}, which no pseudo mask reaches; needed less"
        )
    log.info("%d of %d objects have a certain mask", len(certain), len(objects))
    return samples.of(certain)


def _weights(samples: Samples, learned: PseudoMasks) -> dict[int, float]:
    """The scores of the objects' masks, over their mean. Raises InputError if all are 0."""
    scores = samples.objects.object.map(learned.scores)
    if not scores.any():
        raise InputError("segmentor.weight_by_score: the scores of all pseudo masks are 0")
    return dict(zip(samples.objects.object, scores / scores.mean(), strict=True))


def _true_masks(samples: Samples) -> dict[int, str]:
    rows = samples.objects[samples.objects["mask"].notna()]
    return dict(zip(rows.object.tolist(), rows["mask"].tolist(), strict=True))


if __name__ == "__main__":
    main(run)
