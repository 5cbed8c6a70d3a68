"""--config of the command: configs/ and results/ elsewhere, as Snakemake was given them."""

import shutil
from pathlib import Path

import pytest

from risflow.project.run_options import RunOptions, parse_run_options, repeat_config
from stages.runtime.errors import InputError
from tests.command.conftest import Command
from tests.conftest import ROOT

ELSEWHERE = ("--config", "configs=my configs", "results=my results")
HINT = "--config configs='my configs' results='my results'"


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder without configs/, and a project's configs and results under other names."""
    shutil.copytree(ROOT / "configs", tmp_path / "my configs")
    (tmp_path / "my results").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_several_words_follow_one_option_as_in_snakemake() -> None:
    assert repeat_config(["status", "--config", "results=a", "set=b.c=1", "demo"]) == [
        *("status", "--config", "results=a", "--config", "set=b.c=1", "demo")
    ]
    assert repeat_config(["--config", "demo", "a=b"]) == ["--config", "demo", "--config", "a=b"]
    assert repeat_config(["a=b", "--json", "c=d"]) == ["a=b", "--json", "c=d"]


def test_words_are_options_and_a_command_that_works() -> None:
    words = ["results=/data/a b", "configs=~/mine", "set=segmentor.epochs=5 seed=1"]
    options = parse_run_options(words, may_change=True)
    home = Path("~/mine").expanduser()
    assert options == RunOptions(home, Path("/data/a b"), "segmentor.epochs=5 seed=1")
    assert options.command("demo") == (
        f"snakemake --cores all demo --config configs={home} results='/data/a b'"
        " set='segmentor.epochs=5 seed=1'"
    )
    assert parse_run_options(options.words, may_change=True) == options
    assert parse_run_options(None).command("demo") == "snakemake --cores all demo"


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("demo", "--config demo: needed NAME=VALUE"),
        ("result=x", "--config result: not known; did you mean results?"),
        ("set=segmentor.epochs=5", "of `risflow status` and `risflow why` alone"),
    ],
)
def test_a_word_that_is_no_option_is_refused(word: str, message: str) -> None:
    with pytest.raises(InputError, match=message.replace("?", r"\?")):
        parse_run_options([word])


def test_the_report_of_results_elsewhere_is_found(risflow: Command, project: Path) -> None:
    page = project / "my results/refshapes_tris/report.html"
    done = risflow("report", "refshapes_tris", *ELSEWHERE)
    assert done.exit_code == 1
    assert done.stderr == (
        f"error: {page}: not made yet: snakemake --cores all refshapes_tris {HINT}\n"
    )
    page.parent.mkdir()
    page.touch()
    assert risflow("report", "refshapes_tris", *ELSEWHERE).stdout == f"{page}\n"
    without = risflow("report", "refshapes_tris")
    assert without.exit_code == 1 and "no folder configs here" in without.stderr


def test_compare_and_masks_say_how_to_make_what_is_not_there(
    risflow: Command, project: Path
) -> None:
    done = risflow("compare", "refshapes_tris", *ELSEWHERE)
    assert f"not scored on val yet: snakemake --cores all refshapes_tris {HINT}" in done.stderr
    done = risflow("masks", "refshapes_tris", "--format", "coco", *ELSEWHERE)
    assert f"snakemake --cores all masks_refshapes_tris {HINT} set=" in done.stderr


def test_clean_removes_what_is_elsewhere_alone(risflow: Command, project: Path) -> None:
    unreferred = [Path(name, "work/maps/refshapes-0") for name in ("my results", "results")]
    for folder in unreferred:
        folder.mkdir(parents=True)
    done = risflow("clean", *ELSEWHERE)
    assert done.stdout.split()[2:] == ["my", "results/work/maps/refshapes-0"]
    assert f"`risflow clean --yes {HINT}` removes them" in done.stderr
    assert risflow("clean", "--yes", *ELSEWHERE).exit_code == 0
    assert [folder.exists() for folder in unreferred] == [False, True]


def test_predict_takes_the_segmentor_of_results_elsewhere(
    risflow: Command, project: Path, model: Path, image_file: Path
) -> None:
    for name, place in (("data", "data"), ("configs", "configs")):
        (project / place).symlink_to(ROOT / name)
    segmentor = project / "my results/mine/segmentor/model.safetensors"
    segmentor.parent.mkdir(parents=True)
    shutil.copyfile(model, segmentor)
    done = risflow("predict", image_file, "the red square", "--config", "results=my results")
    assert done.exit_code == 0, done.output
    assert "my results/mine/segmentor/model.safetensors" in done.output
