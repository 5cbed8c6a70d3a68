"""What of results/work/ the experiments of a project refer to."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from stages.config.catalog import Catalog, contents_of
from stages.config.load import Configs
from stages.config.pages import find_page
from stages.config.product import FILES
from stages.storage.steps import read_steps

STEPS = "steps.yaml"


def read_catalog(configs: Configs, changes: dict[str, Any] | None = None) -> Catalog:
    """All that a project can make; files are looked at, so that what has changed is seen."""
    results = configs.settings.results
    return Catalog(configs, results, contents_of(results), changes)


def targets(configs: Configs) -> list[str]:
    """Everything that has a page."""
    return [
        *configs.experiments,
        *configs.sweeps,
        *configs.settings.comparisons,
        *(name for name in configs.datasets if configs.of_dataset(name)),
    ]


def referred_folders(catalog: Catalog) -> set[str]:
    """The folders, below that of results, of all that the configuration and its pages refer to.

    What a page was made of with options of the command line counts as long as its links show it.
    """
    configs, products = catalog.configs, catalog.products
    folders = {product.folder for product in products.everything()}
    for name in targets(configs):
        folders.add(find_page(products, name).product.folder)
        folders |= _shown(configs.settings.results / name / STEPS)
    return folders


def _shown(steps: Path) -> set[str]:
    if not steps.is_file():
        return set()
    page = read_steps(steps)
    report = f"work/report/{page['name']}-{page['digest']}"
    return {report, *(step["place"] for step in page["steps"])}


def unreferred_folders(catalog: Catalog) -> Iterator[Path]:
    """The folders of products that nothing refers to, and those of pages that are no targets."""
    results = catalog.configs.settings.results
    referred = referred_folders(catalog)
    for kind in sorted({*FILES, "report"}):
        for folder in sorted((results / "work" / kind).glob("*-*")):
            if str(folder.relative_to(results)) not in referred:
                yield folder
    known = set(targets(catalog.configs))
    for steps in sorted(results.glob(f"*/{STEPS}")):
        if steps.parent.name not in known:
            yield steps.parent
