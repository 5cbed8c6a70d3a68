"""All models and recipes on RefShapes and on its hard variant: one table in Markdown.

python -m benchmarks.both_refshapes            # makes what is missing, hours on two cores
python -m benchmarks.both_refshapes --print    # only what is there
"""

import argparse
import subprocess
import sys
from pathlib import Path

from benchmarks.seeds import means_by_kind, row, scores_cell
from stages.config.load import load_configs

STANDARD, HARD = "refshapes", "refshapes_hard"
SAMPLES = "val.samples.parquet"


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
    """A row for each experiment of the standard data set, with the same one of the hard variant.

    Cells of what has not been run are empty.
    """
    configs = load_configs(Path("configs"))
    scored = {name: results / name / "scores/segmentor" for name in configs.experiments}
    means = {
        name: means_by_kind(scored[name] / SAMPLES) if (scored[name] / SAMPLES).exists() else {}
        for name in configs.of_dataset(HARD)
    }
    kinds = sorted({kind for of_kinds in means.values() for kind in of_kinds})
    lines = [
        row("val", ["RefShapes", "hard", *(kind.replace("_", " ") for kind in kinds)]),
        "|---" * (3 + len(kinds)) + "|",
    ]
    for name in configs.of_dataset(STANDARD):
        hard = name.replace(STANDARD, HARD, 1)
        files = [scored[each] / "val.json" if each in scored else None for each in (name, hard)]
        cells = [scores_cell(file) if file and file.exists() else "" for file in files]
        of_kinds = means.get(hard, {})
        cells += [f"{100 * of_kinds[kind]:.1f}" if kind in of_kinds else "" for kind in kinds]
        lines.append(row(f"`{name}`", cells))
    return lines


if __name__ == "__main__":
    main()
