"""--config of the command, as that of Snakemake: which configs/ and results/ a verb is about."""

import re
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import typer
from typer.core import TyperCommand

CONFIGS = Path("configs")
OPTION = re.compile(r"\w+=.*", re.DOTALL)

RunConfig = Annotated[
    list[str] | None,
    typer.Option(
        "--config",
        help="As snakemake was given it: configs=FOLDER, results=FOLDER.",
        metavar="NAME=VALUE...",
    ),
]
ChangedRunConfig = Annotated[
    list[str] | None,
    typer.Option(
        "--config",
        help="As snakemake is given it: configs=FOLDER, results=FOLDER, set=OPTION=VALUE.",
        metavar="NAME=VALUE...",
    ),
]


class RunOptions(NamedTuple):
    """What a run of the workflow was given by --config."""

    configs: Path = CONFIGS
    results: Path | None = None  # None: as configs/ says
    changes: str = ""  # of options of experiments: `set`

    @property
    def words(self) -> list[str]:
        """They as Snakemake is given them; nothing for what has its default."""
        given = {
            "configs": str(self.configs) if self.configs != CONFIGS else "",
            "results": str(self.results) if self.results is not None else "",
            "set": self.changes,
        }
        return [f"{name}={value}" for name, value in given.items() if value]

    def command(self, target: str) -> str:
        """The command that makes a target, to be pasted into a shell."""
        return f"snakemake --cores all {target}{self.suffix}"

    @property
    def suffix(self) -> str:
        """What they add to a command, with a space before it."""
        words = [word.split("=", 1) for word in self.words]
        quoted = [f"{name}={shlex.quote(value)}" for name, value in words]
        return f" --config {' '.join(quoted)}" if quoted else ""


DEFAULTS = RunOptions()


def parse_run_options(words: Sequence[str] | None, may_change: bool = False) -> RunOptions:
    """Raises InputError for a word that is none, and for `set` where it means nothing."""
    from stages.config.load import check_run_options
    from stages.runtime.errors import InputError

    given: dict[str, str] = {}
    for word in words or ():
        if not OPTION.fullmatch(word):
            raise InputError(f"--config {word}: needed NAME=VALUE, such as results=/data/results")
        name, _, value = word.partition("=")
        given[name] = value
    check_run_options(given)
    if "set" in given and not may_change:
        raise InputError("--config set: is of `risflow status` and `risflow why` alone")
    return RunOptions(
        Path(given.get("configs", CONFIGS)).expanduser(),
        Path(given["results"]).expanduser() if "results" in given else None,
        given.get("set", ""),
    )


class Verb(TyperCommand):
    """A verb, whose --config takes several words, as Snakemake's does."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        return super().parse_args(ctx, repeat_config(args))


def repeat_config(arguments: Sequence[str]) -> list[str]:
    """`--config a=1 b=2` as `--config a=1 --config b=2`."""
    repeated: list[str] = []
    for word in arguments:
        is_another = len(repeated) > 1 and repeated[-2] == "--config" and OPTION.fullmatch(word)
        repeated += ["--config", word] if is_another else [word]
    return repeated
