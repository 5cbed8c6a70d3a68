"""How much a job has to do: the objects of its part of a split, times the epochs of a training.

What a product was made of stands in the steps.yaml of pages, also of options that have changed
since, and of data sets that were larger or smaller then; of what is not made yet, configs/ tells.
"""

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import TypeAdapter

from stages.config.catalog import Catalog
from stages.config.experiment import Experiment
from stages.config.segmentors import AnySegmentor
from stages.config.sizes import known_objects
from stages.runtime.errors import InputError
from stages.storage.files import read_json
from stages.storage.steps import read_steps

WHOLE = "train"  # the split whose objects stand for a data set, in steps on all of it
TRAININGS = ("train_stage1", "train_affinity", "train_segmentor")


class _Made(NamedTuple):
    """What a product is made by and of."""

    step: str
    options: Mapping[str, Any]
    sources: list[str]  # folders


class JobSizes:
    """The sizes of jobs, by their benchmark files."""

    def __init__(self, catalog: Catalog) -> None:
        self.catalog, self.results = catalog, catalog.results
        self._made: dict[str, _Made | None] = {}  # by folder
        self._sizes: dict[Path, float | None] = {}
        for path in sorted(self.results.glob("work/report/*/steps.yaml")):
            for step in read_steps(path)["steps"]:
                made = _Made(step["step"], step["options"], step["sources"])
                self._made[step["place"]] = made

    def size(self, benchmark: Path) -> float | None:
        """Objects, times epochs for a training; None for a job whose time they do not tell."""
        if benchmark not in self._sizes:
            self._sizes[benchmark] = self._size(benchmark)
        return self._sizes[benchmark]

    def model(self, benchmark: Path) -> str | None:
        """The model that a job trains, where there are several."""
        made = self._find(self._folder(benchmark))
        return made.options.get("model") if made is not None else None

    def _size(self, benchmark: Path) -> float | None:
        folder = self._folder(benchmark)
        made = self._find(folder)
        if made is None:
            return None
        name, *part = benchmark.stem.split("-")  # <step>, <step>-<split>[-<shard>-of-<shards>]
        objects = self._objects(folder, made, part[0] if part else WHOLE)
        if objects is None:
            return None
        shards = int(part[-1]) if len(part) > 1 else 1
        return objects * (_epochs(made) if name in TRAININGS else 1) / shards

    def _folder(self, benchmark: Path) -> str:
        return str(benchmark.parent.relative_to(self.results))

    def _find(self, folder: str) -> _Made | None:
        """What is recorded of a product, else what configs/ says; None if neither knows it."""
        if folder not in self._made:
            self._made[folder] = self._of_configs(folder)
        return self._made[folder]

    def _of_configs(self, folder: str) -> _Made | None:
        kind, _, identity = folder.removeprefix("work/").rpartition("/")
        try:
            product = self.catalog.find(kind, identity)
        except InputError:
            return None
        sources = [source.folder for source in product.sources]
        return _Made(product.step, product.options, sources)

    def _objects(self, folder: str, made: _Made, split: str) -> int | None:
        """The objects of a split of the data set that a product is of."""
        samples = next((f for f in (folder, *made.sources) if f.startswith("work/samples/")), None)
        if samples is None:
            return None
        counts = self.results / samples / "samples.json"
        if counts.is_file():
            known = read_json(counts)["splits"].get(split)
            return None if known is None else int(known["objects"])
        dataset, datasets = samples.split("/")[-1].rpartition("-")[0], self.catalog.configs.datasets
        return known_objects(dataset, split, datasets) if dataset in datasets else None


def _epochs(made: _Made) -> int:
    """The epochs that a training runs; options that have their default are not recorded."""
    epochs = made.options.get("epochs", _usual_epochs(made.step, made.options.get("model")))
    return int(epochs) - int(made.options.get("first_epoch", 0))


@cache
def _usual_epochs(step: str, model: str | None) -> int:
    if step == "train_segmentor":
        return int(TypeAdapter(AnySegmentor).validate_python({"model": model}).epochs)
    section = Experiment.model_fields[step.removeprefix("train_")].default
    return int(section.epochs)
