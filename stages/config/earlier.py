"""Results of version 0.1, which lie in the folder of their experiment itself."""

from collections.abc import Iterable
from pathlib import Path

EARLIER = "version_0.1"  # the folder that they are moved to, in that of their experiment
PARTS = ("stage1", "prms", "irnet", "pseudo", "segmentor", "metrics")


def is_of_version_0_1(folder: Path) -> bool:
    """Whether the folder of an experiment holds results of version 0.1."""
    parts = [folder / path for path in PARTS]
    return any(path.is_dir() and not path.is_symlink() for path in parts)


def notice(results: Path, experiments: Iterable[str]) -> str | None:
    """A line for who runs the workflow on results of version 0.1; None if there are none."""
    earlier = [name for name in experiments if is_of_version_0_1(results / name)]
    if not earlier:
        return None
    return (
        f"{results}/ has results of version 0.1: {', '.join(earlier)}. Nothing is deleted or used."
        f" When an experiment is made again, they move to {results}/<experiment>/{EARLIER}/, and"
        f" all steps run again in {results}/work/. CHANGELOG.md says how to move."
    )
