"""The YAML files of configs/, loaded and checked when the workflow is parsed."""

import typing
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import yaml
from pydantic import ValidationError

from stages.config.datasets import DatasetConfig
from stages.config.experiment import Experiment
from stages.config.findings import describe
from stages.config.resources import Resources
from stages.config.section import Section
from stages.config.settings import Download, Downloads, Settings
from stages.config.sizes import MANY_OBJECTS, count_shards, expected_objects
from stages.runtime.errors import InputError, suggest

S = TypeVar("S", bound=Section)
KINDS = ("datasets", "experiments")


@dataclass(frozen=True)
class Configs:
    """Everything configs/ says."""

    settings: Settings
    datasets: dict[str, DatasetConfig]
    experiments: dict[str, Experiment]
    downloads: dict[str, Download]

    def caches_images(self, dataset: str) -> bool:
        """Whether the images of a data set are resized once and kept (`cache_images`)."""
        if self.settings.cache_images != "auto":
            return self.settings.cache_images == "always"
        return (expected_objects(dataset, self.datasets) or 0) > MANY_OBJECTS

    def shards(self, name: str) -> int:
        """Over how many jobs an experiment spreads its passes over a split."""
        experiment = self.experiments[name]
        if experiment.shards is not None:
            return experiment.shards
        return count_shards(expected_objects(experiment.dataset, self.datasets))

    def source(self, name: str) -> str:
        """The experiment that stage 1 and the pseudo masks of this one are taken from."""
        other = self.experiments[name].pseudo_masks_of
        return self.source(other) if other else name


def load_configs(folder: Path) -> Configs:
    """All configs of a folder, checked alone and against each other.

    Raises InputError that names file, field, finding and remedy, for all findings at once.
    """
    findings: list[str] = []
    settings = _load(folder / "config.yaml", Settings, findings)
    listed = folder / "downloads.yaml"
    downloads = _load(listed, Downloads, findings) if listed.exists() else None
    datasets = _load_all(folder / "datasets", DatasetConfig, findings)
    experiments = _load_all(folder / "experiments", Experiment, findings)
    named = {kind: [path.stem for path in _files(folder / kind)] for kind in KINDS}
    for name, experiment in experiments.items():
        place = f"{folder}/experiments/{name}.yaml"
        _known(place, "dataset", experiment.dataset, named["datasets"], findings)
        _known(place, "supervision", experiment.pseudo_masks_of, named["experiments"], findings)
        _known(place, "upper_bound", experiment.upper_bound, named["experiments"], findings)
        findings += _supervision_findings(place, name, experiments)
        if name in named["datasets"]:
            findings.append(f"{place}: a data set has this name too; their targets need two names")
    for name, dataset in datasets.items():
        place = f"{folder}/datasets/{name}.yaml"
        plain = [n for n in named["datasets"] if n not in datasets or datasets[n].source != "mix"]
        for member in dataset.members:
            _known(place, "members", member, plain, findings)
        if (dataset.source == "mix") != bool(dataset.members):
            findings.append(
                f"{place}: members: {list(dataset.members)}; needed for source mix only"
            )
    if settings is not None:
        place = f"{folder}/config.yaml"
        _known(place, "demo", settings.demo, named["experiments"], findings)
        for target, compared in settings.comparisons.items():
            for name in compared:
                _known(place, f"comparisons.{target}", name, named["experiments"], findings)
            if target in (*named["experiments"], *named["datasets"], "demo"):
                findings.append(f"{place}: comparisons.{target}: another target has this name")
    if findings or settings is None:
        raise InputError("\n".join(findings))
    named_files = downloads.downloads if downloads is not None else {}
    fetched = {name: Download(contents=files) for name, files in named_files.items()}
    return Configs(settings, datasets, experiments, fetched)


def _load(path: Path, section: type[S], findings: list[str]) -> S | None:
    try:
        text = path.read_text()
    except OSError as error:
        findings.append(f"{path}: {error.strerror}")
        return None
    try:
        return section.model_validate(yaml.safe_load(text) or {})
    except yaml.YAMLError as error:
        findings.append(f"{path}: not YAML: {' '.join(str(error).split())}")
    except ValidationError as error:
        findings += [_with_suggestion(line, section) for line in describe(str(path), error)]
    return None


def _load_all(folder: Path, section: type[S], findings: list[str]) -> dict[str, S]:
    loaded = {path.stem: _load(path, section, findings) for path in _files(folder)}
    return {name: value for name, value in loaded.items() if value is not None}


def _files(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.yaml"))


def _with_suggestion(line: str, section: type[Section]) -> str:
    """Adds 'did you mean' to a misspelled option."""
    place, field, finding = line.split(": ", 2)
    if finding != "no such option":
        return line
    *path, option = field.split(".")
    options = _options(section, path)
    remedy = suggest(option, options, f"options here: {', '.join(options)}")
    return f"{place}: {field}: no such option; {remedy}"


def _options(section: type[Section], path: list[str]) -> list[str]:
    """The options that there are at a path of names; resources are named by step first."""
    for part in path:
        inner = section.model_fields[part].annotation if part in section.model_fields else None
        if typing.get_origin(inner) is dict:
            return list(Resources.model_fields)
        kinds = [kind for kind in _members(inner) if issubclass(kind, Section)]
        if not kinds:
            return []
        if len(kinds) > 1:  # a segmentor: the options of any
            return list(dict.fromkeys(name for kind in kinds for name in kind.model_fields))
        section = kinds[0]
    return list(section.model_fields)


def _members(hint: object) -> list[type]:
    """The classes of a hint: itself, or those of a union."""
    if isinstance(hint, type):
        return [hint]
    return [kind for part in typing.get_args(hint) for kind in _members(part)]


def _known(place: str, field: str, name: str | None, known: list[str], findings: list[str]) -> None:
    if name is None or name in known:
        return
    remedy = suggest(name, known, f"known: {', '.join(known) or 'none'}")
    findings.append(f"{place}: {field}: {name!r} is not known; {remedy}")


def _supervision_findings(place: str, name: str, experiments: dict[str, Experiment]) -> list[str]:
    """Pseudo masks of other experiments: the chain must end, at some, on the same data set."""
    seen, current = [name], experiments[name].pseudo_masks_of
    while current is not None and current in experiments:
        other = experiments[current]
        if current in seen:
            return [f"{place}: supervision: {' -> '.join([*seen, current])} never ends"]
        if other.dataset != experiments[name].dataset:
            return [f"{place}: supervision: {current} is on data set {other.dataset}"]
        if other.supervision == "masks":
            return [f"{place}: supervision: {current} learns from masks, and makes no pseudo masks"]
        seen.append(current)
        current = other.pseudo_masks_of
    return []
