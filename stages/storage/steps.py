"""steps.yaml of a page: the products that it shows, each with what it was made by and of."""

from pathlib import Path
from typing import Any

import yaml

from stages.runtime.errors import InputError


def read_steps(path: Path) -> dict[str, Any]:
    """The content of a steps.yaml, as `link_results` writes it. Raises InputError for damage."""
    try:
        page = yaml.safe_load(path.read_text())
    except (yaml.YAMLError, UnicodeDecodeError):
        page = None
    if not isinstance(page, dict) or "steps" not in page:
        raise InputError(
            f"{path.resolve()}: damaged; delete it and run snakemake on its target again: the step"
            " link_results makes it anew"
        )
    return page
