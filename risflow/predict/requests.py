"""Requests: images and expressions, from the command line or from a table."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from risflow.console import notes
from stages.data.entries import LONGEST, Finding, is_unicode
from stages.data.formats import ENDINGS
from stages.runtime.errors import InputError

DRAWINGS = (".mask.png", ".overlay.png", ".heatmap.png")  # how the names of predictions end


@dataclass(frozen=True)
class Request:
    """An image and expressions of objects in it."""

    image: Path
    expressions: list[str]


def require_expressions(expressions: Sequence[str], place: str = "") -> None:
    """Raises InputError for no expression, an empty one, or one that is too long."""
    if not expressions:
        raise InputError(f"{place}no expression; needed at least one")
    for number, text in enumerate(expressions, 1):
        if not text.strip():
            raise InputError(f"{place}expression {number} is empty; needed words")
        if not is_unicode(text):
            raise InputError(f"{place}expression {number} has half of a character; needed text")
        if len(text) > LONGEST:
            raise InputError(
                f"{place}expression {number} has {len(text):,} characters ({text[:30]!r}...);"
                f" at most {LONGEST:,} are taken"
            )


def read_requests(table: Path) -> tuple[list[Request], list[Finding]]:
    """A request for each image of a table, and what is wrong with other rows.

    Paths are relative to the table. Raises InputError for a file that is no table, or an empty one.
    """
    from stages.data.rows import read_rows  # imports pyarrow, for a second

    expressions: dict[Path, list[str]] = {}
    findings: list[Finding] = []
    for row in read_rows(table):
        if isinstance(row, Finding):
            findings.append(row)
        elif not (table.parent / row.image).is_file():
            findings.append(Finding(row.place, f"image {row.image!r} is not in {table.parent}"))
        else:
            expressions.setdefault(table.parent / row.image, []).append(row.expression)
    if not expressions and not findings:
        raise InputError(f"{table}: no rows; needed at least one")
    return [Request(image, texts) for image, texts in expressions.items()], findings


def split_arguments(arguments: Sequence[str]) -> tuple[list[Path], list[str]]:
    """The images and the expressions of a command line: the first is an image, and all files are.

    A folder, which is the first or written with a slash, stands for the images in it. What ends
    like an image and is none is an image too, so that a misspelled name is told. Raises InputError
    for a folder without images.
    """
    images: list[Path] = []
    expressions: list[str] = []
    for number, argument in enumerate(arguments):
        if (number == 0 or "/" in argument) and _is_folder(argument):
            images += _images_in(Path(argument))
        elif number == 0 or _is_file(argument) or _is_image_name(argument):
            images.append(Path(argument))
        else:
            expressions.append(argument)
    return images, expressions


def _is_file(argument: str) -> bool:
    try:
        return Path(argument).is_file()
    except (OSError, ValueError):  # too long for a name, or no name at all
        return False


def _is_folder(argument: str) -> bool:
    try:
        return Path(argument).is_dir()
    except (OSError, ValueError):
        return False


def _images_in(folder: Path) -> list[Path]:
    """The images of a folder, without those that this command has written into it."""
    inside = sorted(folder.iterdir())
    if any(path.is_dir() for path in inside):
        notes.print(f"{folder}: images in folders inside it are not taken", markup=False)
    files = [path for path in inside if path.suffix.lower() in ENDINGS and path.is_file()]
    images = [path for path in files if not path.name.endswith(DRAWINGS)]
    if not images:
        raise InputError(f"{folder}: no image in this folder; needed {', '.join(ENDINGS)}")
    return images


def _is_image_name(argument: str) -> bool:
    is_word = len(argument.split()) == 1
    return is_word and argument.lower().endswith(ENDINGS)
