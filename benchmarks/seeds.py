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

import yaml

from stages.storage.files import read_json

EXPERIMENT, BOUND = "refshapes_tris", "refshapes_tris_masks"
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
    "fully supervised": "segmentor",
}
TRAIN_ROWS = ("PRMS", "CRF labels", "pseudo masks", "assigned masks")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n\n")[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--split", default="val")
    parser.add_argument("--experiment", default=EXPERIMENT, help=f"{EXPERIMENT}, or based on it")
    parser.add_argument("--cores", default="all")
    arguments = parser.parse_args()
    for seed in arguments.seeds:
        run(seed, arguments.experiment, arguments.split, arguments.cores)
    print("\n".join(table(arguments.seeds, arguments.experiment, arguments.split)))


def folder(seed: int) -> Path:
    return Path("results/seeds") / str(seed)


def run(seed: int, experiment: str, split: str, cores: str) -> None:
    """An experiment of one seed, and what it is based on."""
    configs = folder(seed) / "configs"
    shutil.copytree("configs", configs, dirs_exist_ok=True)
    edit(configs / "datasets/refshapes.yaml", {"refshapes": {"seed": seed}})
    own = {"seed": seed}
    changes: dict[str, Any] = {"segmentor": own, "evaluation": {"splits": [split]}}
    edit(configs / f"experiments/{BOUND}.yaml", changes)
    edit(configs / f"experiments/{EXPERIMENT}.yaml", {**changes, "stage1": own, "affinity": own})
    command = ["snakemake", "--cores", cores, "--quiet", "rules", "--nolock"]
    places = ["--config", f"configs={configs}", f"results={folder(seed)}", "--", experiment]
    subprocess.run([Path(sys.executable).parent / command[0], *command[1:], *places], check=True)


def edit(path: Path, changes: dict[str, Any]) -> None:
    """Set options of a YAML file, one section deep."""
    content = yaml.safe_load(path.read_text())
    for section, options in changes.items():
        content[section] = {**content.get(section, {}), **options}
    path.write_text(yaml.safe_dump(content, sort_keys=False))


def table(seeds: list[int], experiment: str, split: str) -> list[str]:
    """mIoU / oIoU / hitM in percent, a column for each seed."""
    lines = [f"| {split} | " + " | ".join(f"seed {seed}" for seed in seeds) + " |"]
    lines.append("|---" * (len(seeds) + 1) + "|")
    for scored_split in (split, "train"):
        for label, scored in ROWS.items():
            if scored_split == "train" and label not in TRAIN_ROWS:
                continue
            owner = BOUND if label == "fully supervised" else experiment
            place = f"{owner}/scores/{scored}/{scored_split}.json"
            files = [folder(seed) / place for seed in seeds]
            if not files[0].exists():  # a step that this experiment does not have
                continue
            cells = [_cell(file) for file in files]
            name = label if scored_split == split else f"{label} ({scored_split})"
            lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return lines


def _cell(path: Path) -> str:
    scores = read_json(path)["scores"]
    values = [scores["mean_iou"], scores["overall_iou"], scores["pointing_accuracy_mask"]]
    return " / ".join("-" if value is None else f"{100 * value:.1f}" for value in values)


if __name__ == "__main__":
    main()
