"""The evaluation of a split by stage 2 of TRIS: from images and annotations to scores.

The official validate.py runs as it is, with its data set, its loader and its boxes. Ours is the
steps predict and evaluate with boxes, and what they write and read. Models are in memory in both,
and the official annotations too; ours reads its tables of samples in each step.
"""

import importlib
import json
import pickle
import tempfile
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pandas as pd
import torch
from PIL import Image

from benchmarks.crf import PHOTOGRAPHS, photograph
from benchmarks.official.clone import on, opened
from benchmarks.official.comparison import Comparison, Results, Sizes, fill
from benchmarks.official.tris import EXPRESSIONS, OBJECTS, Official
from benchmarks.prepare import annotation
from stages import evaluate, predict, prepare
from stages.config.datasets import DatasetConfig
from stages.config.experiment import Experiment
from stages.models.saved import Saved, build_segmentor
from stages.storage.matching import load_exactly

SCORES = ("oIoU", "mIoU", "hit")  # in the official order


def split(root: Path, experiment: Experiment, sizes: Sizes, device: torch.device) -> Comparison:
    """A validation split in REFER's format, of photographs with a few objects each."""
    official = Official(root, device, "model.model_stage2", "validate")
    network, validation = official.modules
    with opened(root):
        data_set = importlib.import_module("dataset.ReferDataset").ReferDataset
        transform = importlib.import_module("dataset.transform").get_transform
    side = sizes.tris_side
    args = official.parse("--print-freq", "1000000")
    theirs = network.TRIS(args)
    fill(theirs)
    config = experiment.segmentor.model_copy(update={"image_size": side})
    ours = build_segmentor(config, pretrained=False)
    load_exactly(ours, theirs.state_dict(), root)
    theirs.eval().to(device)

    made = tempfile.TemporaryDirectory()
    folder = Path(made.name)
    _write(folder, sizes)
    items = data_set(str(folder), split="val", size=side, image_transforms=transform(side, False))
    loader = torch.utils.data.DataLoader(
        items, batch_size=1, num_workers=2, multiprocessing_context="fork"
    )
    source = DatasetConfig(
        source="refer",
        annotations=folder / "refer" / "refcoco",
        images=folder / "train2014",
        split_by="unc",
    )
    samples, predictions, rows = (folder / n for n in ("samples.json", "p.parquet", "r.parquet"))
    prepare.run(samples, source)
    saved = Saved(ours, config, side)
    theirs_scores: dict[str, float] = {}

    def score() -> None:
        with on(device):
            scores = validation.validate(args, loader, theirs)
        theirs_scores.update(zip(SCORES, map(float, scores), strict=True))

    def score_ours() -> None:
        with mock.patch.object(predict, "load_model", lambda path: saved):
            predict.run(samples, predictions, "val", experiment.evaluation, model=samples)
        empty = experiment.evaluation.empty_response
        evaluate.run(
            samples, "val", "segmentor", rows, [predictions], boxes=True, empty_response=empty
        )

    def results() -> tuple[Results, Results]:
        _ = made  # the folder is there as long as this comparison
        table = pd.read_parquet(rows)
        scores = {
            "oIoU": 100 * table.intersection.sum() / table.union.sum(),
            "mIoU": 100 * table.iou.mean(),
            "hit": 100 * table.peak_in_box.mean(),
        }
        return dict(theirs_scores), scores

    count = sizes.images * OBJECTS * EXPRESSIONS
    work = f"{sizes.images} images, {count} expressions, {side} px"
    return Comparison(score, score_ours, results, work, dict.fromkeys(SCORES, 2e-3))


def _write(folder: Path, sizes: Sizes) -> None:
    """Photographs and annotations as the official data set has them."""
    width, height = sizes.picture
    pictures, annotations = folder / "train2014", folder / "refer" / "refcoco"
    pictures.mkdir()
    annotations.mkdir(parents=True)
    images: list[dict[str, Any]] = []
    objects: list[dict[str, Any]] = []
    refs: list[dict[str, Any]] = []
    for number in range(sizes.images):
        name = f"COCO_train2014_{number:012d}.jpg"
        pixels = np.roll(photograph(PHOTOGRAPHS[number % 3], width, height), 20 * number, axis=1)
        Image.fromarray(pixels).save(pictures / name, quality=90)
        images.append({"id": number, "file_name": name, "width": width, "height": height})
        for _ in range(OBJECTS):
            target = len(objects)
            objects.append(annotation(target, number, width, height))
            refs.append(_ref(target, number, name))
    instances = {
        "images": images,
        "annotations": objects,
        "categories": [{"id": 1, "name": "thing"}],
    }
    (annotations / "instances.json").write_text(json.dumps(instances))
    (annotations / "refs(unc).p").write_bytes(pickle.dumps(refs, protocol=2))


def _ref(target: int, image: int, name: str) -> dict[str, Any]:
    ids = range(EXPRESSIONS * target, EXPRESSIONS * (target + 1))
    texts = {number: f"the round thing number {number}" for number in ids}
    return {
        "ref_id": target,
        "ann_id": target,
        "image_id": image,
        "category_id": 1,
        "file_name": name,
        "split": "val",
        "sent_ids": list(ids),
        "sentences": [
            {"sent_id": number, "sent": text, "raw": text, "tokens": text.split()}
            for number, text in texts.items()
        ],
    }
