"""Hours of whole chains on this device, from what throughput and passes measured here.

    python -m benchmarks.chain results/bench.json results/passes.json [--output chain.json]

For published rows on RefCOCO, RefCOCOg and gRefCOCO: a training takes the train objects times the
epochs of its configuration, over the items a second with loading (marked where only those of a
batch in memory are known); a pass takes its milliseconds an object of three expressions times the
objects of the splits that the row's page scores. Steps follow each other. What runs on one core is
divided by the cores. A part that was not measured, or only at a smaller size, is named and is not
in the sum.
"""

import argparse
import json
import math
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks.passes import EXPRESSIONS
from benchmarks.throughput import TRAININGS
from stages.config.contents import Contents
from stages.config.load import Configs, load_configs
from stages.config.pages import find_page
from stages.config.products import Products
from stages.config.section import Training
from stages.config.sizes import known_objects

# Of each data set: the experiments, and the training of benchmarks.throughput of their segmentor.
CHAINS = {
    "RefCOCO": {
        "tris_r50_refcoco": "tris",
        "cris_r50_refcoco": "cris",
        "etris_r101_refcoco": "etris",
        "detris_base_refcoco": "detris",
        "rela_swinb_refcoco": "rela_swinb",
    },
    "RefCOCOg": {
        "tris_r50_refcocog_umd": "tris",
        "cris_r50_refcocog_umd": "cris",
        "etris_r101_refcocog_umd": "etris",
        "detris_base_refcocog_umd": "detris",
        "rela_swinb_refcocog_umd": "rela_swinb",
    },
    "gRefCOCO": {"rela_swint_grefcoco": "rela_swint", "rela_swinb_grefcoco": "rela_swinb"},
}
# ReLA's items are expressions, which configurations do not count: its epochs are of so many steps.
RELA_STEPS = 150_000
Sizes = Callable[[Iterable[str]], list[int | None]]  # objects of splits
STEP_OF = {"maps": "select_maps", "labels": "make_labels", "pseudo_masks": "propagate"}
LEARNED = ("zero_shot", "stage1", "segmentor")  # what predictions are made of


@dataclass(frozen=True)
class Part:
    """One step of a chain: its hours, or why they are not known."""

    step: str
    amount: str  # how much it is of
    hours: float | None = None
    note: str = ""


@dataclass(frozen=True)
class Measured:
    """What was measured, of one device or of several."""

    rates: dict[str, dict[str, Any]]  # trainings by name
    passes: dict[str, dict[str, Any]]
    cores: int
    places: tuple[str, ...]  # devices

    def training(self, name: str, step: str, section: Training, objects: int | None) -> Part:
        """A training on so many objects, by one of TRAININGS."""
        if getattr(section, "expressions_per_object", 1) is None:
            items = RELA_STEPS * section.batch_size
            amount = f"{RELA_STEPS:,} steps of {section.batch_size}"
        elif objects is None:
            return Part(step, f"{section.epochs} epochs", None, "the split's size is not known")
        else:
            items, amount = section.epochs * objects, f"{section.epochs} epochs of {objects:,}"
        row = self.rates.get(name, {})
        if "items_per_second" not in row:
            return Part(step, amount, None, row.get("error", f"training {name} was not measured"))
        if row.get("experiment") != TRAININGS[name][0]:
            size = row.get("experiment", "another size")
            return Part(step, amount, None, f"training {name} was measured as {size}")
        loaded = row.get("with_loading")
        hours = items / (loaded or row["items_per_second"]) / 3600
        return Part(step, amount, hours, "" if loaded else "without loading")

    def once(self, step: str, objects: Sequence[int | None], times: float = 1) -> Part:
        """A pass over some splits, so many times."""
        if None in objects:
            return Part(step, "", None, "a split's size is not known")
        count = round(times * sum(size or 0 for size in objects))
        row = self.passes.get(step)
        if row is None:
            return Part(step, f"{count:,} objects", None, f"{step} was not measured")
        hours = count * row["milliseconds"] / 3.6e6
        if row["on"] == "core":
            return Part(step, f"{count:,} objects", hours / self.cores, f"{self.cores} cores")
        return Part(step, f"{count:,} objects", hours)


def read(files: Iterable[Path], cores: int | None = None) -> Measured:
    """The measurements of files of throughput and passes; of one name the last counts."""
    rates: dict[str, dict[str, Any]] = {}
    passes: dict[str, dict[str, Any]] = {}
    places: dict[str, None] = {}
    known = None
    for file in files:
        content = json.loads(file.read_text())
        rates |= {row["training"]: row for row in content.get("trainings", [])}
        passes |= content.get("passes", {})
        known = content.get("cores", known)
        places[f"{content['device']}, torch {content['torch']}"] = None
    return Measured(rates, passes, cores or known or os.cpu_count() or 1, tuple(places))


def chain(name: str, training: str, configs: Configs, measured: Measured) -> list[Part]:
    """The steps of an experiment, in their order."""
    experiment = configs.experiments[name]
    datasets = configs.datasets
    train = known_objects(experiment.dataset, "train", datasets)

    def sizes(splits: Iterable[str]) -> list[int | None]:
        return [known_objects(experiment.dataset, split, datasets) for split in splits]

    page = find_page(Products(configs, Path("results"), Contents(Path("no record"))), name)
    scored = [(kind, split) for _, kind, split in page.rows]
    evaluated = experiment.evaluation.splits
    parts = [measured.once("prepare", [train, *sizes(evaluated)])]
    if experiment.learns_from_text:
        stage1 = experiment.stage1
        parts.append(measured.training("stage1", "train_stage1", stage1, train))
        parts += _validation(stage1, "stage1", sizes, measured)
        for kind, step in STEP_OF.items():
            splits = list(dict.fromkeys(s for made, s in scored if made == kind))
            parts.append(measured.once(step, sizes(splits)))
            if kind == "labels":
                affinity = experiment.affinity
                parts.append(measured.training("affinity", "train_affinity", affinity, train))
    segmentor = experiment.segmentor
    parts.append(measured.training(training, "train_segmentor", segmentor, train))
    parts += _validation(segmentor, training, sizes, measured)
    for kind in LEARNED:
        splits = [split for made, split in scored if made == kind]
        if splits:
            name = training if kind == "segmentor" else kind
            parts.append(measured.once(f"predict {name}", sizes(splits)))
    parts.append(measured.once("evaluate", sizes(split for _, split in scored)))
    return parts


def _validation(section: Any, name: str, sizes: Sizes, measured: Measured) -> list[Part]:
    """The predictions during a training, where its options ask for them."""
    options = section.validation
    if options is None:
        return []
    times = math.ceil(section.epochs / options.every)
    share = 1 / EXPRESSIONS if options.first_expressions else 1.0
    part = measured.once(f"predict {name}", sizes(options.split), times * share)
    return [replace(part, step=f"validation of {name}")]


def table(chains: dict[str, dict[str, list[Part]]]) -> str:
    """Hours of each part, and the sum of those that are known."""
    lines = []
    for dataset, experiments in chains.items():
        for name, parts in experiments.items():
            lines.append(f"{dataset}: {name}")
            for part in parts:
                hours = "missing" if part.hours is None else f"{part.hours:.2f}"
                note = f"  ({part.note})" if part.note else ""
                lines.append(f"  {part.step:22s}{hours:>8s}  {part.amount}{note}")
            missing = sum(part.hours is None for part in parts)
            without = f", without {missing} of {len(parts)} parts" if missing else ""
            lines.append(f"  {'sum, hours':22s}{total(parts):8.2f}{without}")
    return "\n".join(lines)


def total(parts: Iterable[Part]) -> float:
    """Hours of the parts that are known."""
    return sum(part.hours or 0.0 for part in parts)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("files", nargs="+", type=Path, help="of throughput and of passes")
    parser.add_argument("--cores", type=int, help="default: as in the files, else of this machine")
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    measured, configs = read(options.files, options.cores), load_configs(Path("configs"))
    chains = {
        dataset: {name: chain(name, kind, configs, measured) for name, kind in experiments.items()}
        for dataset, experiments in CHAINS.items()
    }
    print("; ".join(measured.places))
    print(table(chains))
    if options.output is not None:
        sums = {
            dataset: {
                name: {"hours": total(parts), "parts": [asdict(part) for part in parts]}
                for name, parts in experiments.items()
            }
            for dataset, experiments in chains.items()
        }
        content = {"device": measured.places, "cores": measured.cores, "chains": sums}
        options.output.parent.mkdir(parents=True, exist_ok=True)
        options.output.write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main()
