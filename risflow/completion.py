"""What a shell completes of a command line: names of configs/, by its files so as to be quick."""

from pathlib import Path


def experiments(incomplete: str) -> list[str]:
    """The experiments whose names begin so."""
    return _names("experiments", incomplete)


def targets(incomplete: str) -> list[str]:
    """The experiments and data sets whose names begin so, and the demo."""
    demo = ["demo"] if "demo".startswith(incomplete) else []
    return [*demo, *_names("experiments", incomplete), *_names("datasets", incomplete)]


def _names(kind: str, incomplete: str) -> list[str]:
    names = sorted(path.stem for path in Path("configs", kind).glob("*.yaml"))
    return [name for name in names if name.startswith(incomplete)]
