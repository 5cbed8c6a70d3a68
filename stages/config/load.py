"""The YAML files of configs/, loaded and checked when the workflow is parsed."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from stages.config.datasets import DatasetConfig
from stages.config.experiment import Experiment
from stages.config.names import name_fault, named_things, workflow_names
from stages.config.settings import Download, Downloads, Settings
from stages.config.training_findings import makes_masks_of, training_findings
from stages.config.variants import Options, Variant, combinations, inherit, merge, set_option
from stages.config.yaml_files import read_options, validate
from stages.runtime.errors import InputError, suggest

RUN_OPTIONS = ("configs", "results", "set")  # of Snakemake's --config


@dataclass(frozen=True)
class Configs:
    """Everything configs/ says."""

    folder: Path
    settings: Settings
    datasets: dict[str, DatasetConfig]
    experiments: dict[str, Experiment]  # those of sweeps too
    downloads: dict[str, Download]
    sweeps: dict[str, list[Variant]] = field(default_factory=dict)
    given: dict[str, Options] = field(default_factory=dict)  # of experiments, bases merged in

    def source(self, name: str) -> str:
        """The experiment that stage 1 and the pseudo masks of this one are taken from."""
        other = self.experiments[name].pseudo_masks_of
        return self.source(other) if other else name

    def behind(self, name: str) -> list[str]:
        """This experiment, and those whose pseudo masks or votes it learns from."""
        other = self.experiments[name].learned_from
        return [name, *(self.behind(other) if other else [])]

    def of_dataset(self, name: str) -> list[str]:
        """The experiments that the target of a data set makes, TRIS first.

        The rows of published tables, else all of the data set; none that a sweep made, and none
        that only imports its segmentor as long as there are others.
        """
        own = [
            experiment
            for experiment, options in self.experiments.items()
            if options.dataset == name and experiment not in self.variants
        ]
        rows = [experiment for experiment in own if self.experiments[experiment].published] or own
        trained = [name for name in rows if self.experiments[name].checkpoint is None]
        return sorted(
            trained or rows, key=lambda n: (self.experiments[n].segmentor.model != "tris", n)
        )

    @property
    def variants(self) -> set[str]:
        """The experiments that sweeps made."""
        return {variant.name for variants in self.sweeps.values() for variant in variants}

    def members(self, target: str) -> list[str]:
        """The experiments that a target makes."""
        if target == "demo":
            return [self.settings.demo]
        if target in self.sweeps:
            return [variant.name for variant in self.sweeps[target]]
        if target in self.settings.comparisons:
            return list(self.settings.comparisons[target])
        if target in self.datasets:
            return self.of_dataset(target)
        return [target] if target in self.experiments else []

    def with_changes(self, names: Collection[str], changes: Mapping[str, Any]) -> "Configs":
        """The same with options of some experiments set, and checked like those of the files.

        Raises InputError with all findings.
        """
        findings: list[str] = []
        experiments = dict(self.experiments)
        for name in names:
            options = self.given[name]
            for path, value in changes.items():
                options = set_option(options, path, value)
            changed = validate(f"set, for {name}", options, Experiment, findings)
            if changed is not None:
                experiments[name] = changed
        configs = replace(self, experiments=experiments)
        findings += [line for name in names for line in _experiment_findings(configs, name)]
        if findings:
            raise InputError("\n".join(findings))
        return configs


def load_configs(folder: Path) -> Configs:
    """All configs of a folder, checked alone and against each other.

    Raises InputError that names file, field, finding and remedy, for all findings at once.
    """
    findings: list[str] = []
    _files(folder, findings)
    settings = _load(folder / "config.yaml", Settings, findings)
    listed = folder / "downloads.yaml"
    downloads = _load(listed, Downloads, findings) if listed.exists() else None
    datasets = {
        path.stem: loaded
        for path in _files(folder / "datasets", findings)
        if (loaded := _load(path, DatasetConfig, findings)) is not None
    }
    given, sweeps = _written_experiments(folder / "experiments", findings)
    experiments = {
        name: loaded
        for name, options in given.items()
        if (loaded := validate(_place(folder, name, sweeps), options, Experiment, findings))
    }
    if findings or settings is None:
        raise InputError("\n".join(dict.fromkeys(findings)))
    named = downloads.downloads if downloads is not None else {}
    fetched = {name: Download(contents=files) for name, files in named.items()}
    configs = Configs(folder, settings, datasets, experiments, fetched, sweeps, given)
    for name in experiments:
        findings += _experiment_findings(configs, name)
    findings += [
        *_dataset_findings(configs),
        *_settings_findings(configs),
        *_name_findings(configs),
    ]
    if findings:
        raise InputError("\n".join(dict.fromkeys(findings)))
    return configs


def _written_experiments(
    folder: Path, findings: list[str]
) -> tuple[dict[str, Options], dict[str, list[Variant]]]:
    """The options of each experiment as they are written, with bases and sweeps worked out."""
    files = {
        path.stem: options
        for path in _files(folder, findings)
        if (options := read_options(path, findings)) is not None
    }
    given: dict[str, Options] = {}
    sweeps: dict[str, list[Variant]] = {}
    for name in files:
        try:
            options = inherit(files, name)
            options.pop("base", None)
            sweep = options.pop("sweep", None)
            if sweep is None:
                given[name] = options
                continue
            sweeps[name] = list(combinations(name, sweep))
        except ValueError as error:
            findings.append(f"{folder}/{name}.yaml: {error}")
            continue
        for variant in sweeps[name]:
            varied = merge(options, {})
            for path, value in variant.values.items():
                varied = set_option(varied, path, value)
            given[variant.name] = varied
    return given, sweeps


def _place(folder: Path, name: str, sweeps: Mapping[str, list[Variant]]) -> str:
    """The file that an experiment is written in."""
    for sweep, variants in sweeps.items():
        if name in [variant.name for variant in variants]:
            return f"{folder}/experiments/{sweep}.yaml"
    return f"{folder}/experiments/{name}.yaml"


def _load(path: Path, section: type[Any], findings: list[str]) -> Any:
    options = read_options(path, findings)
    return None if options is None else validate(str(path), options, section, findings)


def _files(folder: Path, findings: list[str]) -> list[Path]:
    """The YAML files of a folder, and findings for those whose names end otherwise."""
    for path in sorted(folder.glob("*")):
        if path.suffix.lower() in (".yml", ".yaml") and path.suffix != ".yaml":
            findings.append(f"{path}: ends in {path.suffix}; rename it to {path.stem}.yaml")
    return sorted(folder.glob("*.yaml"))


def check_run_options(options: Mapping[str, Any]) -> None:
    """Raises InputError for an option of Snakemake's --config that the workflow does not know."""
    for name in options:
        if name not in RUN_OPTIONS:
            remedy = suggest(str(name), RUN_OPTIONS, f"known: {', '.join(RUN_OPTIONS)}")
            raise InputError(
                f"--config {name}: not known; {remedy} (options of experiments:"
                ' --config set="segmentor.epochs=5")'
            )


def _known(place: str, option: str, name: str | None, known: Collection[str]) -> list[str]:
    if name is None or name in known:
        return []
    remedy = suggest(name, known, f"known: {', '.join(known) or 'none'}")
    return [f"{place}: {option}: {name!r} is not known; {remedy}"]


def _experiment_findings(configs: Configs, name: str) -> list[str]:
    experiment = configs.experiments[name]
    place = _place(configs.folder, name, configs.sweeps)
    return [
        *_known(place, "dataset", experiment.dataset, configs.datasets),
        *_known(place, "supervision", experiment.learned_from, configs.experiments),
        *_known(place, "upper_bound", experiment.upper_bound, configs.experiments),
        *_supervision_findings(place, name, configs.experiments),
        *_assigned_findings(place, name, configs.experiments),
        *training_findings(place, name, configs.experiments, configs.datasets),
    ]


def _dataset_findings(configs: Configs) -> list[str]:
    findings = []
    plain = [name for name, dataset in configs.datasets.items() if dataset.source != "mix"]
    for name, dataset in configs.datasets.items():
        place = f"{configs.folder}/datasets/{name}.yaml"
        for member in dataset.members:
            findings += _known(place, "members", member, plain)
        if (dataset.source == "mix") != bool(dataset.members):
            findings.append(
                f"{place}: members: {list(dataset.members)}; needed for source mix only"
            )
    return findings


def _settings_findings(configs: Configs) -> list[str]:
    place = f"{configs.folder}/config.yaml"
    findings = _known(place, "demo", configs.settings.demo, configs.experiments)
    for target, compared in configs.settings.comparisons.items():
        for name in compared:
            findings += _known(place, f"comparisons.{target}", name, configs.experiments)
    return findings


def _name_findings(configs: Configs) -> list[str]:
    """Names that cannot be targets, or that two things have."""
    findings = []
    taken = workflow_names()
    for kind, names in named_things(configs).items():
        for name in names:
            place, fault = _named_in(configs, kind, name), name_fault(name)
            if fault is not None:
                findings.append(f"{place}: the name {name!r}: {fault}")
            elif name in taken:
                findings.append(f"{place}: {taken[name]} is called {name} too; rename one of them")
            taken.setdefault(name, kind)
    return findings


def _named_in(configs: Configs, kind: str, name: str) -> str:
    """The place where something has its name from."""
    if kind == "a data set":
        return f"{configs.folder}/datasets/{name}.yaml"
    if kind == "a comparison":
        return f"{configs.folder}/config.yaml: comparisons.{name}"
    return _place(configs.folder, name, configs.sweeps)


def _assigned_findings(place: str, name: str, experiments: Mapping[str, Experiment]) -> list[str]:
    """Assigned masks can be written for other tools where they are made."""
    source = makes_masks_of(name, experiments)
    if "assigned" in experiments[name].masks.stages and not experiments[source].assigns:
        return [f"{place}: masks.stages: assigned; needed an assignment.method in {source}"]
    return []


def _supervision_findings(
    place: str, name: str, experiments: Mapping[str, Experiment]
) -> list[str]:
    """Pseudo masks and votes of others: the chain must end, at some, on the same data set."""
    seen, current = [name], experiments[name].learned_from
    while current is not None and current in experiments:
        other = experiments[current]
        if current in seen:
            return [f"{place}: supervision: {' -> '.join([*seen, current])} never ends"]
        if other.dataset != experiments[name].dataset:
            return [f"{place}: supervision: {current} is on data set {other.dataset}"]
        if other.supervision == "masks":
            return [f"{place}: supervision: {current} learns from masks, and makes no pseudo masks"]
        seen.append(current)
        current = other.learned_from
    return []
