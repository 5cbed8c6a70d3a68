"""What `risflow profile` measures: the model of a file, of an experiment, or of a system."""

from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch import nn

from risflow.project.hub import local_file
from risflow.project.project import find_experiment, read_project
from stages.config.experiment import Experiment
from stages.config.load import Configs
from stages.config.section import Section
from stages.models.saved import MODELS, STAGE1, Saved, build, load_model
from stages.runtime.errors import InputError


def find_model(name: str) -> tuple[str, nn.Module, Section]:
    """What it is, the model, and its options.

    The models of systems and experiments have random weights: no figure depends on them, and no
    file of weights is needed. Raises InputError for a name that is nothing of these.
    """
    path = local_file(Path(name))
    if path.is_file() or path.suffix == ".safetensors":
        if not path.is_file():
            raise InputError(f"{path}: no such file; needed a model file (.safetensors)")
        saved = _load(path)
        return str(path), saved.model, saved.config
    configs = read_project()
    if name in MODELS:
        experiment = _published(name, configs)
        own = configs.experiments[experiment]
        title = f"{name} as in {experiment}"
    else:
        own, title = find_experiment(name, configs), name
    kind = name if name in MODELS else own.segmentor.model
    config: Section = own.stage1 if kind == STAGE1 else own.segmentor
    with torch.random.fork_rng(devices=[]):
        return title, build(kind, config, pretrained=False), config


def _load(path: Path) -> Saved[nn.Module]:
    """A model file, or an official checkpoint of any system."""
    if path.suffix == ".safetensors":
        return load_model(path)
    from risflow.project.official import import_of_any_system

    with TemporaryDirectory() as folder:
        imported = Path(folder, f"{path.stem}.safetensors")
        import_of_any_system(path, imported, read_project())
        return load_model(imported)


def _published(system: str, configs: Configs) -> str:
    """The first experiment of a system that has published figures, else the first of it."""

    def has(experiment: Experiment) -> bool:
        if system == STAGE1:
            return experiment.supervision == "pseudo"
        return experiment.segmentor.model == system

    names = [name for name, experiment in configs.experiments.items() if has(experiment)]
    if not names:
        raise InputError(f"{system}: no experiment of configs/ has this model")
    return next((name for name in names if configs.experiments[name].published), names[0])
