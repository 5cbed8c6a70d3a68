"""The commands that the documentation tells to type."""

import re
import shlex
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parent.parent
PAGES = sorted(
    path
    for path in (*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), ROOT / "data" / "README.md")
    if path.name != "CHANGELOG.md"
)
COMMENTED = sorted(
    [ROOT / "Snakefile", *(ROOT / "workflow").rglob("*.smk")]
    + [path for folder in ("workflow", "configs") for path in (ROOT / folder).rglob("*.yaml")]
)
PROGRAMS = ("snakemake", "risflow", "make", "python")
# A line of a block, of a fence, or of a comment; or code within a sentence.
LINE = re.compile(rf"^(?: {{4,}}|# *|)((?:{'|'.join(PROGRAMS)}) .*)$")
SPAN = re.compile(rf"`((?:{'|'.join(PROGRAMS)}) [^`]*)`")
PLACEHOLDER = re.compile(r"<[a-z ]+>|\.\.\.")


class Documented(NamedTuple):
    """A command, as the words that the program gets, and where it stands."""

    place: str
    words: tuple[str, ...]

    @property
    def text(self) -> str:
        return shlex.join(self.words)


def commands(program: str, pages: Iterable[Path] = (*PAGES, *COMMENTED)) -> list[Documented]:
    """The commands of a program, once each, without those that leave a place to fill in."""
    by_words = {each.words: each for path in pages for each in _of_file(path)}
    return [each for each in by_words.values() if each.words[0] == program]


def _of_file(path: Path) -> Iterator[Documented]:
    fenced = False
    lines = re.sub(r"\\\n *", "", path.read_text()).splitlines()  # a command over several lines
    for number, line in enumerate(lines, start=1):
        fenced ^= line.startswith("```")
        plain = path.suffix == ".md" and not fenced
        for text in _texts(line, plain):
            if not PLACEHOLDER.search(text):
                yield Documented(f"{path.relative_to(ROOT)}:{number}", _words(text))


def _texts(line: str, plain: bool) -> list[str]:
    """The commands of a line; a sentence may begin with `make` where it is plain text."""
    spans = SPAN.findall(line)
    block = LINE.match(line)
    if spans or not block or (plain and not line.startswith("    ")):
        return spans
    return [block[1]]


def _words(text: str) -> tuple[str, ...]:
    """The words of the first command of a line, without comments, redirections and `&`."""
    lexer = shlex.shlex(text, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    words = []
    for word in lexer:
        if set(word) <= set("|&;<>()"):
            break
        words.append(word)
    return tuple(words)
