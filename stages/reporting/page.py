"""Self-contained pages: filled templates that load nothing."""

from pathlib import Path
from typing import Any

import jinja2

from stages.storage.files import replacing

TEMPLATES = jinja2.Environment(
    loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
    autoescape=True,
    trim_blocks=True,
    lstrip_blocks=True,
    undefined=jinja2.StrictUndefined,
)


def write_page(path: Path, template: str, **content: Any) -> None:
    """Fill a template of this folder, into a file."""
    page = fill(template, **content)
    with replacing(path) as temporary:
        temporary.write_text(page)


def fill(template: str, **content: Any) -> str:
    """The text of a template of this folder."""
    return TEMPLATES.get_template(template).render(**content)
