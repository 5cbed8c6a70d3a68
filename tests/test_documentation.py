"""The pages: those that are written by a script are up to date, and the site has no dead link."""

import ast
import importlib
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

from stages.config.load import load_configs
from stages.config.section import Section

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
MODULES = [
    importlib.import_module(f"stages.config.{path.stem}")
    for path in (ROOT / "stages" / "config").glob("[a-z]*.py")
]
OPTIONS = {
    value
    for module in MODULES
    for value in vars(module).values()
    if isinstance(value, type) and issubclass(value, Section)
}
# Arguments of steps, made by the workflow; and a base without keys of its own.
NOT_IN_FILES = {"Compared", "Download", "WithClip"}


@pytest.mark.parametrize("name", ["data", "configuration", "results"])
def test_pages_that_a_script_writes_are_up_to_date(name: str) -> None:
    command = [sys.executable, f"docs/write_{name}.py"]
    made = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert (DOCS / f"{name}.md").read_text() == made, "make docs"


def test_every_figure_is_on_a_page_and_every_page_has_its_figures() -> None:
    pages = "".join(page.read_text() for page in DOCS.glob("*.md"))
    shown = set(re.findall(r"figures/[\w/.-]+", pages))
    there = {str(path.relative_to(DOCS)) for path in (DOCS / "figures").rglob("*.*")}
    assert shown == there


def test_every_key_of_every_section_is_on_the_page_of_options() -> None:
    page = set(re.findall(r"^\| `(\w+)` \|", (DOCS / "configuration.md").read_text(), re.MULTILINE))
    for section in OPTIONS:
        missing = set(section.model_fields) - page
        assert not missing or section.__name__ in NOT_IN_FILES, f"{section.__name__}: {missing}"


def test_every_experiment_is_on_the_page_of_results() -> None:
    page = (DOCS / "results.md").read_text()
    configs = load_configs(ROOT / "configs")
    names = configs.experiments.keys() - configs.variants
    missing = [name for name in names if f"`{name}`" not in page]
    assert not missing, "docs/write_results.py: `published` in its file, or a line in EMBEDDED"


def test_every_section_has_a_part_on_the_page_of_options() -> None:
    script = ast.parse((DOCS / "write_configuration.py").read_text())
    named = {node.attr for node in ast.walk(script) if isinstance(node, ast.Attribute)}
    named |= {node.id for node in ast.walk(script) if isinstance(node, ast.Name)}
    assert {section.__name__ for section in OPTIONS} - NOT_IN_FILES <= named


def test_a_line_starts_no_list_within_a_paragraph() -> None:
    """GitHub makes a list of it, the site does not."""
    pages = [*ROOT.glob("*.md"), *DOCS.glob("*.md"), ROOT / "data" / "README.md"]
    for page in pages:
        before = ""
        for number, line in enumerate(page.read_text().splitlines(), start=1):
            starts = re.match(r"(- |\d+\. |\|)", line)
            continues = re.match(r"( |- |\d+\. |\||$)", before)
            assert not starts or continues, f"{page.name}:{number}: an empty line before it"
            before = line


def texts_of_the_code() -> str:
    """All texts in the code, those that values are put into without the values."""
    nodes = [
        node
        for package in ("stages", "irnet", "risflow", "workflow")
        for path in (ROOT / package).rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
    ]
    return "\n".join(
        node.value
        for node in nodes
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    )


@pytest.mark.parametrize(
    ("page", "head"), [("troubleshooting.md", "risflow says"), ("own_data.md", "it says")]
)
def test_messages_that_a_page_explains_are_those_of_the_code(page: str, head: str) -> None:
    known = texts_of_the_code()
    table = rf"^\| {head} \|.*\n((?:\|.*\n)+)"
    rows = "".join(re.findall(table, (DOCS / page).read_text(), re.MULTILINE)).splitlines()
    message = [text for row in rows for text in re.findall(r"`([^`]+)`", row.split(" | ")[0])]
    parts = [part for text in message for part in re.split(r" ?\.\.\. ?", text)]
    assert message and [part for part in parts if part not in known] == []


class Asked(HTMLParser):
    """The addresses that a page asks for by itself."""

    def __init__(self) -> None:
        super().__init__()
        self.addresses: list[str] = []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        given = dict(attributes)
        if given.get("rel") not in ("canonical", "next", "prev") and tag != "a":
            self.addresses += [given.get("src") or "", given.get("href") or ""]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built so that a warning, a dead link among them, is an error."""
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return folder


def test_the_site_has_no_dead_link_and_asks_nothing_of_other_hosts(site: Path) -> None:
    pages = sorted(site.rglob("*.html"))
    assert len(pages) > len(list(DOCS.glob("*.md")))
    for page in pages:
        asked = Asked()
        asked.feed(page.read_text())
        elsewhere = [address for address in asked.addresses if re.match(r"(https?:)?//", address)]
        assert not elsewhere, f"{page.name}: {elsewhere}"
    for style in site.rglob("*.css"):
        assert not re.search(r"(url\(|@import )[\"']?(https?:)?//", style.read_text()), style.name
