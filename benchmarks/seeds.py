"""The demo on several seeds of data, initialization and order: how far its numbers vary.

    python -m benchmarks.seeds --seeds 0 1 2 --split val

Each seed has configs and results of its own under results/seeds/, so that a seed that is done is
not run again. Prints a table in Markdown.
"""

import argparse
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

from stages.storage.files import read_json

EXPERIMENT, BOUND = "refshapes_tris", "refshapes_tris_masks"
ROWS = {
    "whole image": (EXPERIMENT, "whole_image"),
    "center box": (EXPERIMENT, "center_box"),
    "zero-shot CLIP": (EXPERIMENT, "zero_shot"),
    "stage 1": (EXPERIMENT, "stage1"),
    "PRMS": (EXPERIMENT, "maps"),
    "CRF labels": (EXPERIMENT, "labels"),
    "pseudo masks": (EXPERIMENT, "pseudo_masks"),
    "stage 2": (EXPERIMENT, "segmentor"),
    "fully supervised": (BOUND, "segmentor"),
}
TRAIN_ROWS = ("PRMS", "CRF labels", "pseudo masks")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n\n")[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--split", default="val")
    parser.add_argument("--cores", default="all")
    arguments = parser.parse_args()
    for seed in arguments.seeds:
        run(seed, arguments.split, arguments.cores)
    print("\n".join(table(arguments.seeds, arguments.split)))


def folder(seed: int) -> Path:
    return Path("results/seeds") / str(seed)


def run(seed: int, split: str, cores: str) -> None:
    """The demo of one seed."""
    configs = folder(seed) / "configs"
    shutil.copytree("configs", configs, dirs_exist_ok=True)
    edit(configs / "datasets/refshapes.yaml", {"refshapes": {"seed": seed}})
    own = {"seed": seed}
    changes: dict[str, Any] = {"segmentor": own, "evaluation": {"splits": [split]}}
    edit(configs / f"experiments/{BOUND}.yaml", changes)
    edit(configs / f"experiments/{EXPERIMENT}.yaml", {**changes, "stage1": own, "affinity": own})
    command = ["snakemake", "--cores", cores, "--quiet", "rules", "--nolock"]
    places = ["--config", f"configs={configs}", f"results={folder(seed)}", "--", "demo"]
    subprocess.run([Path(sys.executable).parent / command[0], *command[1:], *places], check=True)


def edit(path: Path, changes: dict[str, Any]) -> None:
    """Set options of a YAML file, one section deep."""
    content = yaml.safe_load(path.read_text())
    for section, options in changes.items():
        content[section] = {**content.get(section, {}), **options}
    path.write_text(yaml.safe_dump(content, sort_keys=False))


def table(seeds: list[int], split: str) -> list[str]:
    """mIoU / oIoU / hitM in percent, a column for each seed."""
    lines = [f"| {split} | " + " | ".join(f"seed {seed}" for seed in seeds) + " |"]
    lines.append("|---" * (len(seeds) + 1) + "|")
    for scored_split in (split, "train"):
        for label, (experiment, scored) in ROWS.items():
            if scored_split == "train" and label not in TRAIN_ROWS:
                continue
            cells = [
                _cell(folder(s) / experiment / f"scores/{scored}/{scored_split}.json")
                for s in seeds
            ]
            name = label if scored_split == split else f"{label} ({scored_split})"
            lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return lines


def _cell(path: Path) -> str:
    scores = read_json(path)["scores"]
    values = [scores["mean_iou"], scores["overall_iou"], scores["pointing_accuracy_mask"]]
    return " / ".join("-" if value is None else f"{100 * value:.1f}" for value in values)


if __name__ == "__main__":
    main()
