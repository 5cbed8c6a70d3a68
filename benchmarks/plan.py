"""The plan of all experiments at once, with their data and weights pretended by empty files.

    python -m benchmarks.plan --images 100000

Prints how many jobs Snakemake plans, how many trainings of stage 1 among them for each data set,
the seconds and the memory of the dry run, and the seconds that a listing of the images takes.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from stages.config.catalog import Catalog
from stages.config.contents import Contents, listing_of
from stages.config.load import Configs, load_configs
from stages.config.requirements import files_of_experiment
from tests.conftest import ROOT

LINKED = ("Snakefile", "workflow", "profiles", "stages", "irnet", "configs")
SNAKEMAKE = str(Path(sys.executable).parent / "snakemake")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n\n")[0])
    parser.add_argument("--images", type=int, default=1000, help="In each folder of images.")
    count = parser.parse_args().images
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for linked in LINKED:
            (folder / linked).symlink_to(ROOT / linked)
        os.chdir(folder)
        configs = load_configs(Path("configs"))
        pretend(configs, count)
        show_listings(configs)
        show_trainings(configs)
        show_dry_run(list(configs.experiments))


def pretend(configs: Configs, images: int) -> None:
    """Put an empty file at every place that an experiment reads from, and images in the folders."""
    folders = {
        dataset.images
        for dataset in configs.datasets.values()
        if dataset.source not in ("refshapes", "mix", "lmdb") and dataset.images is not None
    }
    for folder in folders:
        folder.mkdir(parents=True, exist_ok=True)
        for number in range(images):
            (folder / f"{number:012}.jpg").touch()
    for name in configs.experiments:
        for file in files_of_experiment(name, configs):
            file.parent.mkdir(parents=True, exist_ok=True)
            if (ROOT / file).exists() and not file.exists():
                file.symlink_to(ROOT / file)
            elif not file.exists():
                file.touch()


def show_listings(configs: Configs) -> None:
    """Seconds to see whether an image of a data set has changed, as each run does first."""
    folder = configs.datasets["refcoco"].images
    assert folder is not None
    files = [str(path) for path in folder.iterdir()]
    listing = Path("listing.json")
    listing.write_text(json.dumps(listing_of(files)))
    started = time.perf_counter()
    Contents(Path("contents.json")).of_images(listing)
    print(f"listing of {len(files):,} images: {time.perf_counter() - started:.2f} s")


def show_trainings(configs: Configs) -> None:
    """Trainings of stage 1 that all experiments need together."""
    catalog = Catalog(configs, Path("results"), Contents(Path("contents.json")))
    needed = Counter[str]()
    made: dict[str, str] = {}
    for name in configs.experiments:
        for step in catalog.page(name).steps():
            if step.step == "train_stage1":
                made[step.folder] = configs.experiments[name].dataset
                needed[configs.experiments[name].dataset] += 1
    for dataset, experiments in needed.items():
        own = sum(owner == dataset for owner in made.values())
        print(f"stage 1 of {dataset}: {own} training for {experiments} experiments")


def show_dry_run(experiments: list[str]) -> None:
    command = [SNAKEMAKE, "--dry-run", "--quiet", "rules", "--cores", "32", "--", *experiments]
    started = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True)
    seconds = time.perf_counter() - started
    if done.returncode:
        sys.exit(done.stderr[-3000:])
    lines = (done.stdout + done.stderr).splitlines()
    jobs = {rule: int(count) for rule, count in (line.split() for line in _table(lines))}
    total, trainings = jobs["total"], jobs["train_stage1"]
    mib = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    planned = f"{total} jobs, {trainings} trainings of stage 1"
    print(f"{len(experiments)} experiments: {planned}, {seconds:.0f} s, {mib:.0f} MiB")


def _table(lines: list[str]) -> list[str]:
    """The rows of Snakemake's table of jobs, which a dry run prints at its beginning and end."""
    first = next(i for i, line in enumerate(lines) if line.startswith("Job stats:")) + 3
    return lines[first : lines.index("", first)]


if __name__ == "__main__":
    main()
