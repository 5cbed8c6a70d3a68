"""Every command in README.md, docs/ and the comments of the workflow is one that works."""

import importlib
import re
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from snakemake.cli import get_argument_parser

from risflow.cli import app
from stages.config.load import load_configs
from stages.runtime import command_line as command
from tests.documented import ROOT, Documented, commands

CONFIGS = load_configs(ROOT / "configs")
EXAMPLES = {"mine", "prepare_mine", "mine_masks", "my_masks", "my_experiment"}  # of an own data set
TARGETS = {
    *("demo", "fetch_weights", "small_clip", "placed_clip"),
    *(f"fetch_{name}" for name in CONFIGS.downloads),
    *CONFIGS.settings.comparisons,
    *CONFIGS.sweeps,
    *CONFIGS.datasets,
    *(f"prepare_{name}" for name in CONFIGS.datasets),
    *CONFIGS.experiments,
    *(f"masks_{name}" for name in CONFIGS.experiments),
}
EMBEDDED = {name for name in TARGETS if name.startswith(("demo", "refshapes"))}
WITHOUT_TARGET = {"list_target_rules", "list_rules", "unlock", "lint"}
PLAIN = ("snakemake", "--cores", "32", "--resources", "gpu=4")  # makes the demo


def each_of(program: str) -> pytest.MarkDecorator:
    return each(commands(program))


def each(commands_to_try: list[Documented]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize(
        "documented", commands_to_try, ids=[each.text for each in commands_to_try]
    )


def targets_of(documented: Documented) -> list[str]:
    """The targets, as Snakemake understands the line."""
    try:
        given = get_argument_parser().parse_args(list(documented.words[1:]))
    except (SystemExit, ValueError) as error:
        pytest.fail(f"{documented.place}: {documented.text}: {error}")
    if not given.targets and documented.words != PLAIN:
        assert any(getattr(given, name, False) for name in WITHOUT_TARGET), (
            f"{documented.place}: {documented.text}: no target; does an option swallow it?"
        )
    return list(given.targets)


@each_of("snakemake")
def test_a_line_of_snakemake_names_targets_that_there_are(documented: Documented) -> None:
    unknown = set(targets_of(documented)) - TARGETS - EXAMPLES
    assert not unknown, f"{documented.place}: {documented.text}"


def test_a_target_that_an_option_swallows_is_found() -> None:
    with pytest.raises(pytest.fail.Exception, match="--resources"):
        targets_of(Documented("here", ("snakemake", "--resources", "gpu=4", "demo")))
    with pytest.raises(AssertionError, match="swallow"):
        targets_of(Documented("here", ("snakemake", "--forcerun", "train_stage1", "demo")))


@pytest.mark.parametrize(
    ("target", "remedy"),
    [("demp", "did you mean demo?"), ("qqqq", "`snakemake --list-rules` shows them")],
)
def test_a_target_that_is_none_is_named_with_the_closest(target: str, remedy: str) -> None:
    snakemake = Path(sys.executable).parent / "snakemake"
    done = subprocess.run([snakemake, target, "-n"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1 and f"'{target}' is no target; {remedy}" in done.stdout


def can_be_planned(documented: Documented) -> bool:
    """Whether it needs no data and no results that are not here."""
    words = set(documented.words)
    return documented.words == PLAIN or (bool(EMBEDDED & words) and "--report" not in words)


@pytest.mark.workflow
@each([one for one in commands("snakemake") if can_be_planned(one)])
def test_a_line_of_snakemake_on_the_embedded_data_set_can_be_planned(
    documented: Documented, tmp_path: Path
) -> None:
    program = str(Path(sys.executable).parent / "snakemake")
    line = [program, *documented.words[1:], "--dry-run", "--nolock"]
    line += ["--config", f"results={tmp_path}"]
    done = subprocess.run(line, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, f"{documented.place}: {done.stderr[-2000:]}"


@each_of("risflow")
def test_a_line_of_risflow_has_a_verb_and_options_that_there_are(documented: Documented) -> None:
    verb, *arguments = documented.words[1:]
    whole = typer.main.get_command(app)
    if verb in [option for parameter in whole.params for option in parameter.opts]:
        return
    verbs = whole.commands  # type: ignore[attr-defined]
    assert verb in verbs, f"{documented.place}: {documented.text}"
    context = verbs[verb].context_class(verbs[verb], info_name=verb)
    verbs[verb].make_parser(context).parse_args(args=arguments)


@each_of("python")
def test_a_line_of_python_runs_a_module_with_options_that_it_has(documented: Documented) -> None:
    if documented.words[1] != "-m":
        assert (ROOT / documented.words[1]).exists(), documented.place
        return
    module = importlib.import_module(documented.words[2])
    given = {word for word in documented.words[3:] if word.startswith("--")} - {"--help"}
    if hasattr(module, "run"):
        known = command.parser(module.run).format_help()
        missing = {option for option in given if f"{option} " not in known}
        assert not missing, f"{documented.place}: {documented.text}"


@each_of("make")
def test_a_line_of_make_names_a_target_that_there_is(documented: Documented) -> None:
    known = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    given = {word for word in documented.words[1:] if "=" not in word}
    assert given <= known, f"{documented.place}: {documented.text}"
