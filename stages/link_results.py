"""What a person opens: in results/<name>/ links to all that a page is made of, and steps.yaml.

steps.yaml says of each step its digest, version, options, files and sources. Results that version
0.1 left in the folder are moved to version_0.1/ in it, and named in the log; nothing is deleted.
"""

import logging
import os
import re
from pathlib import Path
from typing import Any

import yaml

from stages.config.catalog import Catalog, contents_of
from stages.config.earlier import EARLIER, is_of_version_0_1
from stages.config.load import load_configs
from stages.config.pages import Page
from stages.config.product import Product
from stages.config.variants import parse_changes
from stages.runtime.command_line import main
from stages.runtime.errors import InputError
from stages.storage.files import replacing

VERSION = 1

log = logging.getLogger(__name__)


def run(
    page: str,
    digest: str,
    steps: Path,
    linked: Path,
    configs: Path,
    results: Path,
    changes: str | None = None,
) -> None:
    """Write `steps`, make all links in the folder of `linked`, and `linked` at the end.

    `linked` is an empty file, .<digest>: it is there as long as the links are those of the digest.
    Raises InputError if the page of the configuration has another digest by now.
    """
    catalog = Catalog(
        load_configs(configs),
        results,
        contents_of(results, is_frozen=True),
        parse_changes(changes or ""),
    )
    page_recipe = catalog.find_page(f"{page}-{digest}")
    folder = linked.parent
    folder.mkdir(parents=True, exist_ok=True)
    with replacing(steps) as temporary:
        temporary.write_text(yaml.safe_dump(describe_page(page_recipe), sort_keys=False, width=100))
    _keep_earlier(folder)
    links = _links(page_recipe)
    for place in [*folder.glob("*"), *folder.glob("*/*")]:
        if place.is_symlink() and str(place.relative_to(folder)) not in links:
            place.unlink()
    for name, target in links.items():
        _link(folder / name, results / target)
    for other in folder.glob(".*"):
        if re.fullmatch(r"\.[0-9a-f]+", other.name):
            other.unlink()
    linked.touch()


def describe_page(page: Page) -> dict[str, Any]:
    """The content of steps.yaml."""
    return {
        "name": page.name,
        "digest": page.product.digest,
        "options": dict(page.product.options),
        "split": page.split,
        "trainings": {title: product.folder for title, product in page.trainings.items()},
        "links": {name: product.folder for name, product in page.links.items()},
        "steps": [describe_step(product) for product in page.steps()],
    }


def describe_step(product: Product) -> dict[str, Any]:
    return {
        "place": product.folder,
        "step": product.step,
        "version": product.version,
        "options": dict(product.options),
        "files": dict(product.files),
        "sources": [source.folder for source in product.sources],
    }


def _links(page: Page) -> dict[str, str]:
    """Places in the folder of a page, and what they lead to in results/."""
    links = {name: product.folder for name, product in page.links.items()}
    for name in ("report.html", "scores.txt", "steps.yaml"):
        links[name] = f"{page.product.folder}/{name}"
    return links


def _link(place: Path, target: Path) -> None:
    """Make `place` a relative link; what another page needs no more is replaced."""
    place.parent.mkdir(parents=True, exist_ok=True)
    relative = os.path.relpath(target, place.parent)
    temporary = place.with_name(f".{place.name}.{os.getpid()}.link")
    temporary.unlink(missing_ok=True)
    temporary.symlink_to(relative)
    try:
        temporary.replace(place)
    except OSError as error:
        temporary.unlink()
        raise InputError(
            f"{place}: is in the way of a link to {target} ({error.strerror}); move it elsewhere"
        ) from None


def _keep_earlier(folder: Path) -> None:
    """Move what version 0.1 made, which no link is, out of the way."""
    if not is_of_version_0_1(folder):
        return
    kept = folder / EARLIER
    kept.mkdir(exist_ok=True)
    for path in sorted(folder.iterdir()):
        if path != kept and not path.is_symlink() and not path.name.startswith("."):
            path.rename(kept / path.name)
            log.info("%s: of version 0.1, kept as %s", path, kept / path.name)


if __name__ == "__main__":
    main(run)
