"""All models and recipes on RefShapes and on its hard variant: one table in Markdown.

python -m benchmarks.both_refshapes            # makes what is missing, hours on two cores
python -m benchmarks.both_refshapes --print    # only what is there
"""

import argparse
import subprocess
import sys
from pathlib import Path

import pandas as pd

from stages.config.load import load_configs
from stages.storage.files import read_json

STANDARD, HARD = "refshapes", "refshapes_hard"
METRICS = ("mean_iou", "overall_iou", "pointing_accuracy_mask")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n\n")[0])
    parser.add_argument("--print", action="store_true", help="print the table and make nothing")
    parser.add_argument("--cores", default="all")
    parser.add_argument("--results", type=Path, default=Path("results"))
    arguments = parser.parse_args()
    if not arguments.print:
        command = [Path(sys.executable).parent / "snakemake", STANDARD, HARD]
        options = ["--cores", arguments.cores, "--config", f"results={arguments.results}"]
        subprocess.run([*command, *options], check=True)
    print("\n".join(table(arguments.results)))


def table(results: Path) -> list[str]:
    """A row for each experiment of the standard data set, with the same one of the hard variant."""
    kinds = sorted({kind for name in _experiments(HARD) for kind in _by_kind(results, name)})
    lines = [
        "| val | RefShapes | hard |" + "".join(f" {kind.replace('_', ' ')} |" for kind in kinds),
        "|---" * (3 + len(kinds)) + "|",
    ]
    for name in _experiments(STANDARD):
        hard = name.replace(STANDARD, HARD, 1)
        of_kinds = _by_kind(results, hard)
        cells = [_scores(results, name), _scores(results, hard)]
        cells += [f"{100 * of_kinds[kind]:.1f}" if kind in of_kinds else "" for kind in kinds]
        lines.append(f"| `{name}` | " + " | ".join(cells) + " |")
    return lines


def _experiments(dataset: str) -> list[str]:
    return load_configs(Path("configs")).of_dataset(dataset)


def _scores(results: Path, experiment: str) -> str:
    """mIoU / oIoU / hitM in percent; empty where it has not been run."""
    path = results / experiment / "scores/segmentor/val.json"
    if not path.exists():
        return ""
    scores = read_json(path)["scores"]
    return " / ".join(f"{100 * scores[name]:.1f}" for name in METRICS)


def _by_kind(results: Path, experiment: str) -> dict[str, float]:
    """mIoU of each kind of expression."""
    path = results / experiment / "scores/segmentor/val.samples.parquet"
    if not path.exists():
        return {}
    return pd.read_parquet(path).groupby("kind")["iou"].mean().to_dict()


if __name__ == "__main__":
    main()
