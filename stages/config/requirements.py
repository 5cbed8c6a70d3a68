"""The files and packages that a user brings: which of them a target needs, and what gets them."""

from collections.abc import Iterable
from pathlib import Path

from stages.config.datasets import DatasetConfig
from stages.config.hub import hub_file_at
from stages.config.load import Configs
from stages.config.product import FILES, MODELS, Product, everything_behind
from stages.config.selection import SelectedTraining
from stages.config.settings import Download
from stages.config.trackers import tracker_fault

DATA = Path("data")  # what is fetched is put in here


def files_of_dataset(name: str, configs: Configs) -> list[Path]:
    """The annotations and images that a data set is made of; nothing where it is generated."""
    dataset: DatasetConfig = configs.datasets[name]
    if dataset.source == "refshapes":
        return []
    if dataset.source == "mix":
        files = (file for member in dataset.members for file in files_of_dataset(member, configs))
        return list(dict.fromkeys(files))
    images = None if dataset.source == "lmdb" else dataset.images  # LMDB holds its images
    return [path for path in (*dataset.annotation_files, images) if path is not None]


def files_of_experiment(name: str, configs: Configs) -> list[Path]:
    """The data and the weights that an experiment reads, and those of what it learns from."""
    experiment = configs.experiments[name]
    files = files_of_dataset(experiment.dataset, configs)
    if experiment.checkpoint is not None:
        files += [experiment.checkpoint, *experiment.segmentor.tokenizer_files]
    else:
        files += _files_to_train(experiment.segmentor, configs)
    stage1 = experiment.stage1_checkpoint
    files += [stage1] if stage1 is not None else []
    if experiment.learns_from_text and experiment.pseudo_masks_of:
        files += files_of_experiment(experiment.pseudo_masks_of, configs)
    elif experiment.learns_from_text and experiment.votes_of:
        files += files_of_experiment(experiment.votes_of, configs)
        files += [*experiment.judge.files, *experiment.affinity.files]
    elif experiment.learns_from_text:
        files += experiment.stage1.clip.files  # of zero-shot CLIP too
        if stage1 is None:
            files += _files_to_train(experiment.stage1, configs)
        files += [*experiment.judge.files, *experiment.affinity.files]
    return list(dict.fromkeys(files))


def _files_to_train(section: SelectedTraining, configs: Configs) -> list[Path]:
    """The weights that a training reads, and the files of the experiment that it starts from."""
    name = section.initial_experiment
    other = files_of_experiment(name, configs) if name is not None else []
    return [*section.training_files, *other]


def downloads_of(files: Iterable[Path], configs: Configs) -> list[str]:
    """The downloads that give some of these files, or something in these folders."""
    wanted = list(files)
    return [
        name
        for name, download in configs.downloads.items()
        if any(_is_in(given, path) for given in _given(download) for path in wanted)
    ]


def missing(target: str, files: Iterable[Path], configs: Configs) -> str | None:
    """A line that names all files that are not there, and what gets them; None if all are."""
    absent = [path for path in files if not path.exists()]
    if not absent:
        return None
    names = downloads_of(absent, configs)
    remedy = "data/README.md says what belongs there"
    of_hub = [str(file) for path in absent if (file := hub_file_at(path)) is not None]
    if of_hub:
        remedy = f"`risflow fetch {' '.join(of_hub)}` gets what is of the hub; {remedy}"
    if names:
        targets = " ".join(f"fetch_{name}" for name in names)
        remedy = f"`snakemake --cores 1 {targets}` gets what is public; {remedy}"
    return f"{target} needs {', '.join(map(str, absent))}: not there; {remedy}"


def _given(download: Download) -> list[Path]:
    return [DATA / path for file in download.contents for path in (file.gives or (file.path,))]


def _is_in(given: Path, path: Path) -> bool:
    return given == path or path in given.parents


def missing_trackers(products: Iterable[Product], results: Path) -> str | None:
    """A line for a tracker of a training to be done that is not installed; None if all are."""
    for product in everything_behind(products):
        if product.kind in MODELS and product.owner is not None:
            execution = product.owner.execution_of(product.step)  # type: ignore[arg-type]
            fault = tracker_fault(execution.trackers)
            model = results / product.folder / FILES[product.kind]
            if fault is not None and not model.exists():
                return f"execution: {product.step}: {fault}"
    return None
