"""An experiment on several seeds of data, initialization and order: how far its numbers vary.

    python -m benchmarks.seeds --seeds 0 1 2 --split val
    python -m benchmarks.seeds --experiment refshapes_beyond

Each seed has configs and results of its own under results/seeds/, so that a seed that is done is
not run again. Prints a table in Markdown.
"""

import argparse
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml

from stages.config.load import load_configs
from stages.metrics.iou import iou
from stages.storage.files import read_json
from stages.storage.masks import decode
from stages.storage.tables import read_samples, read_table

EXPERIMENT = "refshapes_tris"
BOUND = "fully supervised"
ROWS = {
    "whole image": "whole_image",
    "center box": "center_box",
    "zero-shot CLIP": "zero_shot",
    "stage 1": "stage1",
    "PRMS": "maps",
    "CRF labels": "labels",
    "pseudo masks": "pseudo_masks",
    "assigned masks": "assigned",
    "stage 2": "segmentor",
    BOUND: "segmentor",
}
KINDS = ("attribute", "place", "relation")
MASKS = {"pseudo masks": "pseudo_masks", "assigned masks": "assigned"}
TRAIN_ROWS = ("PRMS", "CRF labels", *MASKS)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n\n")[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--split", default="val")
    parser.add_argument("--experiment", default=EXPERIMENT, help=f"{EXPERIMENT}, or based on it")
    parser.add_argument("--cores", default="all")
    arguments = parser.parse_args()
    for seed in arguments.seeds:
        run_seed(seed, arguments.experiment, arguments.split, arguments.cores)
    print("\n".join(table(arguments.seeds, arguments.experiment, arguments.split)))


def folder(seed: int) -> Path:
    return Path("results/seeds") / str(seed)


def run_seed(seed: int, experiment: str, split: str, cores: str) -> None:
    """An experiment of one seed, and what it is based on."""
    configs = folder(seed) / "configs"
    shutil.copytree("configs", configs, dirs_exist_ok=True)
    edit(configs / "datasets/refshapes.yaml", {"refshapes": {"seed": seed}})
    own = {"seed": seed}
    changes: dict[str, Any] = {"segmentor": own, "evaluation": {"splits": [split]}}
    targets = [experiment]
    if bound := bound_of(experiment):
        edit(configs / f"experiments/{bound}.yaml", changes)
        targets.append(bound)
    edit(configs / f"experiments/{EXPERIMENT}.yaml", {**changes, "stage1": own, "affinity": own})
    command = ["snakemake", "--cores", cores, "--quiet", "rules", "--nolock"]
    places = ["--config", f"configs={configs}", f"results={folder(seed)}", "--", *targets]
    subprocess.run([Path(sys.executable).parent / command[0], *command[1:], *places], check=True)


def edit(path: Path, changes: dict[str, Any]) -> None:
    """Set options of a YAML file, one section deep."""
    content = yaml.safe_load(path.read_text())
    for section, options in changes.items():
        content[section] = {**content.get(section, {}), **options}
    path.write_text(yaml.safe_dump(content, sort_keys=False))


def bound_of(experiment: str) -> str | None:
    """The fully supervised experiment beside it."""
    return load_configs(Path("configs")).experiments[experiment].upper_bound


def table(seeds: list[int], experiment: str, split: str) -> list[str]:
    """Rows of Markdown with a column for each seed: scores as mIoU / oIoU / hitM in percent."""
    lines = [f"| {split} | " + " | ".join(f"seed {seed}" for seed in seeds) + " |"]
    lines.append("|---" * (len(seeds) + 1) + "|")
    bound = bound_of(experiment)
    for scored_split in (split, "train"):
        for label, scored in ROWS.items():
            if scored_split == "train" and label not in TRAIN_ROWS:
                continue
            owner = bound if label == BOUND else experiment
            place = f"{owner}/scores/{scored}/{scored_split}.json"
            files = [folder(seed) / place for seed in seeds]
            if not files[0].exists():  # a step that this experiment does not have
                continue
            name = label if scored_split == split else f"{label} ({scored_split})"
            lines.append(row(name, [scores_cell(file) for file in files]))
    samples = f"{experiment}/scores/segmentor/{split}.samples.parquet"
    kinds = [means_by_kind(folder(seed) / samples) for seed in seeds]
    for kind in KINDS:
        cells = [f"{100 * means[kind]:.1f}" for means in kinds]
        lines.append(row(f"stage 2: {kind}, mIoU", cells))
    for label, name in MASKS.items():
        shares = [share_of_other_objects(folder(seed) / experiment, name) for seed in seeds]
        if None not in shares:
            cells = [f"{100 * share:.1f}" for share in shares if share is not None]
            lines.append(row(f"{label} (train): of another object, %", cells))
    return lines


def share_of_other_objects(results: Path, name: str) -> float | None:
    """The share of masks of the train split that have a higher IoU with another object's."""
    shards = sorted((results / name).glob("masks-train-*.parquet"))
    if not shards:
        return None
    split = read_samples(results / "samples/samples.json").split("train")
    sizes = split.images.set_index("image")
    masks = read_table("masks", shards).set_index("object")["mask"]
    others = []
    for image, objects in split.objects.groupby("image"):
        size = sizes.height[image], sizes.width[image]
        true = np.stack([decode(mask, *size) for mask in objects["mask"]])
        for number, own in enumerate(objects.object):
            found = decode(masks[own], *size)
            ious = iou((true & found).sum((1, 2)), (true | found).sum((1, 2)), empty=0.0)
            others.append(ious.max() > ious[number])
    return float(np.mean(others))


def means_by_kind(samples: Path) -> dict[str, float]:
    """mIoU of each kind of expression."""
    means: dict[str, float] = pd.read_parquet(samples).groupby("kind")["iou"].mean().to_dict()
    return means


def row(name: str, cells: list[str]) -> str:
    return f"| {name} | " + " | ".join(cells) + " |"


def scores_cell(path: Path) -> str:
    """mIoU / oIoU / hitM in percent."""
    scores = read_json(path)["scores"]
    values = [scores["mean_iou"], scores["overall_iou"], scores["pointing_accuracy_mask"]]
    return " / ".join("-" if value is None else f"{100 * value:.1f}" for value in values)


if __name__ == "__main__":
    main()
