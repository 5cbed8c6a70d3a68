"""The pages for users of the official repositories have every flag, and commands that work."""

from pathlib import Path

import pytest
import yaml
from snakemake.cli import get_argument_parser

from tests.conftest import ROOT
from tests.documented import Documented, commands
from tests.pretended import plan, pretended_project

FLAGS = yaml.safe_load((ROOT / "tests/official_flags.yaml").read_text())
VALUES = yaml.safe_load((ROOT / "tests/official_values.yaml").read_text())
SYSTEMS = ("tris", "cris", "etris", "detris", "rela")
COMMANDS = commands("snakemake", sorted((ROOT / "docs").glob("coming_from_*.md")))
# One of each system; its file is short, and all others are like it.
ROWS = (
    "tris_r50_referit",
    "cris_r50_refcoco",
    "etris_r50_refcoco",
    "detris_large_refcoco_mixed",
    "rela_swinb_grefcoco",
)
CHANGED = [each for each in COMMANDS if {"--until", "--config"} & set(each.words)]


@pytest.fixture(scope="module")
def pretended(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pretended_project(tmp_path_factory.mktemp("project"))


@pytest.mark.parametrize("system", SYSTEMS)
def test_every_official_flag_is_on_the_page_of_its_system(system: str) -> None:
    page = (ROOT / f"docs/coming_from_{system}.md").read_text()
    listed = [flag for flags in FLAGS.get(system, {}).values() for flag in flags]
    if system == "rela":
        listed = list(VALUES["rela"]["shared"])
    elif system == "detris":
        listed += [key for values in VALUES["detris"]["files"].values() for key in values]
    missing = {flag for flag in listed if f"`{flag}`" not in page} - {"experiment"}
    assert not missing and listed


def targets(documented: Documented) -> list[str]:
    return list(get_argument_parser().parse_args(list(documented.words[1:])).targets)


@pytest.mark.workflow
def test_every_target_of_the_pages_can_be_planned(pretended: Path) -> None:
    """In one run, since each takes seconds; those that change something are slow tests."""
    wanted = {name for each in COMMANDS if each not in CHANGED for name in targets(each)}
    assert {f"tris_r50_{name}_released" for name in ("refcocog_umd", "referit")} < wanted
    wanted |= {f"{row}_corrected" for row in ROWS}
    text = plan(pretended, "snakemake", "--cores", "1", *sorted(wanted))
    assert all(f"rule {name}:" in text for name in wanted)


@pytest.mark.slow
@pytest.mark.workflow
@pytest.mark.parametrize("documented", CHANGED, ids=[each.text for each in CHANGED])
def test_a_command_of_the_pages_with_options_can_be_planned(
    pretended: Path, documented: Documented
) -> None:
    for name in ("exp/best_model.pth", "data/checkpoints/etris.pth"):
        (pretended / name).parent.mkdir(exist_ok=True)
        (pretended / name).touch()
    text = plan(pretended, *documented.words)
    if "--until" in documented.words:
        assert f"rule {documented.words[-1]}:" in text
    else:
        assert "rule import_checkpoint:" in text and "rule train_segmentor:" not in text
