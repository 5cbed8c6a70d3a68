"""Official checkpoints by their manifests, with random weights, imported and scored."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from stages import import_checkpoint
from stages.config.load import load_configs
from stages.config.section import Precision
from stages.data.dataset import ReferringDataset, inference_batches
from stages.inference.inference import Inference
from stages.metrics.iou import intersection_union, iou
from stages.models.saved import load_model
from stages.storage.masks import Mask, decode
from stages.storage.tables import read_samples
from tests.conftest import ROOT
from tests.parity import recipes
from tests.parity.golden import manifest

EXPERIMENTS = load_configs(ROOT / "configs").experiments
# Of each: the experiment, the manifest, where the entries are in it, and how names begin in files.
MODELS = {
    "tris_stage1": ("tris_r50_refcoco", ("tris", "stage1_clip-RN50"), "entries", ""),
    "tris": ("tris_r50_refcoco", ("tris", "stage2_clip-RN50"), "entries", ""),
    "cris": ("cris_r50_refcoco", ("cris", "cris_r50"), "state_dict", "module."),
    "etris": ("etris_r50_refcoco", ("cris", "etris_r50"), "state_dict", "module."),
    "detris": ("detris_base_refcoco", ("detris", "B17"), "keys", ""),
}


def imported(name: str, folder: Path, seed: int = 0) -> Path:
    """The model file of an official checkpoint with random weights."""
    experiment, place, key, prefix = MODELS[name]
    row = EXPERIMENTS[experiment]
    entries = [_entry(entry) for entry in manifest(*place)[key]]
    shapes = {n.removeprefix(prefix): (shape, dtype) for n, shape, dtype in entries}
    state = recipes.state_dict(shapes, seed)
    for own, (shape, dtype) in shapes.items():
        if "float" not in dtype:
            state[own] = torch.zeros(shape, dtype=getattr(torch, dtype))
    file, model = folder / f"{name}.pth", folder / f"{name}.safetensors"
    torch.save({"state_dict" if row.segmentor.model != "tris" else "model": state}, file)
    if name == "tris_stage1":
        import_checkpoint.run(file, model, stage1=row.stage1)
    else:
        import_checkpoint.run(file, model, row.segmentor)
    file.unlink()
    return model


def _entry(entry: Any) -> tuple[str, tuple[int, ...], str]:
    if isinstance(entry, dict):
        return entry["key"], tuple(entry["shape"]), entry["dtype"]
    name, shape, dtype = entry
    return name, tuple(shape), dtype.removeprefix("torch.")


def masks(
    model: Path, samples: Path, device: torch.device, precision: Precision
) -> Iterator[tuple[Mask, Mask]]:
    """The mask of each expression of val, as stages/predict.py makes it, and the ground truth."""
    inference = Inference(load_model(model), device, precision)
    val = read_samples(samples).split("val")
    truths = val.expressions.merge(val.objects, on="object").set_index("expression")["mask"]
    for batch, shapes in batches(inference, samples):
        results = inference.encode(batch, shapes)
        rows = zip(batch["expression"].tolist(), batch["image_index"].tolist(), strict=True)
        for (expression, image), result in zip(rows, results, strict=True):
            size = shapes[image]
            yield decode(result.mask, *size), decode(truths[expression], *size)


def batches(
    inference: Inference, samples: Path
) -> Iterator[tuple[dict[str, Tensor], list[tuple[int, int]]]]:
    """The batches of val, and the heights and widths of their images."""
    data = ReferringDataset(
        read_samples(samples).split("val"),
        inference.tokenizer,
        inference.image_size,
        resize_mode=inference.resize_mode_name,
        text_field=inference.text_field,
    )
    for batch in inference_batches(data, 8):
        seen = data.images.loc[batch["image"].tolist()]
        yield batch, list(zip(seen.height.tolist(), seen.width.tolist(), strict=True))


def mean_iou(pairs: Iterable[tuple[Mask, Mask]]) -> float:
    """mIoU of masks and their ground truth."""
    return float(np.mean([iou(*intersection_union(*pair)) for pair in pairs]))
