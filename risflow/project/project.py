"""What is in the folder that the command is used in: configs/, results/."""

from dataclasses import replace
from pathlib import Path

from risflow.console import notes
from risflow.project.files import source
from risflow.project.run_options import CONFIGS, DEFAULTS, RunOptions
from stages.config.experiment import Experiment
from stages.config.load import Configs, load_configs
from stages.runtime.errors import InputError, suggest

RELEASED = Path("data/demo_segmentor.safetensors")


def read_project(options: RunOptions = DEFAULTS) -> Configs:
    """All of configs/, with the results of the options. Raises InputError outside of a project."""
    if not options.configs.is_dir():
        raise InputError(
            f"{Path.cwd()}: no folder {options.configs} here; needed the folder of a project"
            " (`risflow init FOLDER` makes one)"
        )
    configs = load_configs(options.configs)
    if options.results is None:
        return configs
    settings = configs.settings.model_copy(update={"results": options.results})
    return replace(configs, settings=settings)


def results_folder(options: RunOptions = DEFAULTS) -> Path:
    """Where results are: as the options or configs/ say, else `results`."""
    if options.results is not None:
        return options.results
    is_project = options.configs.is_dir() or options.configs != CONFIGS
    return read_project(options).settings.results if is_project else Path("results")


def choose_segmentor(results: Path) -> Path:
    """The segmentor that was finished last; notes tell the user of the choice.

    Where no experiment has one: the released model of the demo. Raises InputError without that.
    """
    models = list(results.glob("*/segmentor/model.safetensors"))
    for folder in sorted(path / "segmentor" for path in results.glob("*")):
        if folder.is_symlink() and not (folder / "model.safetensors").exists():
            _note(f"{folder}: not trained yet, so that another model is used")
    if models:
        if len(models) > 1:
            _note(f"the newest of {len(models)} segmentors; --model chooses another")
        return max(models, key=lambda path: path.stat().st_mtime)
    released = source() / RELEASED
    if not released.is_file():
        raise InputError(
            f"{results}: no experiment has a segmentor yet; name a model with --model, or make the"
            " demo's: snakemake --cores all demo"
        )
    _note("no experiment has a segmentor yet: the released model of the demo")
    return released


def _note(text: str) -> None:
    notes.print(f"note: {text}", markup=False)


def require_target(target: str, configs: Configs) -> None:
    """Raises InputError, with the closest name, for what the workflow makes no results of."""
    prepared = [f"prepare_{name}" for name in configs.datasets]
    masks = [f"masks_{name}" for name in configs.experiments]
    targets = ["demo", *configs.experiments, *configs.sweeps, *configs.datasets, *prepared, *masks]
    targets += configs.settings.comparisons
    if target not in targets:
        raise InputError(f"{target!r} is no target; {suggest(target, targets, 'see configs/')}")


def find_experiment(name: str, configs: Configs) -> Experiment:
    """An experiment by its name. Raises InputError that suggests one that there is."""
    if name not in configs.experiments:
        remedy = suggest(name, configs.experiments, "see configs/experiments/")
        raise InputError(f"{name!r} is no experiment; {remedy}")
    return configs.experiments[name]
