"""The trackers of trainings, and the packages that they need."""

from collections.abc import Iterable
from importlib.util import find_spec
from typing import Literal

TrackerName = Literal["tensorboard", "csv", "wandb", "mlflow"]
SERVICES = ("wandb", "mlflow")  # packages that are extras of the same names


def tracker_fault(names: Iterable[str]) -> str | None:
    """What is wrong with the trackers of a training: the first that is not installed."""
    for name in names:
        if name in SERVICES and not _is_installed(name):
            return f'trackers: {name} is not installed; needed pip install "risflow[{name}]"'
    return None


def _is_installed(package: str) -> bool:
    """Whether a package could be imported: a folder of its name, such as wandb/, is none."""
    spec = find_spec(package)
    return spec is not None and spec.origin is not None
