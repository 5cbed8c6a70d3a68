"""What the workflow can make, by target and by file; also with options of the command line.

Options of the command line hold for the experiments of the targets alone. A job of a run knows its
file and not the target, so that it looks for the product with and without them: the digest tells.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from stages.config.contents import Contents
from stages.config.load import Configs
from stages.config.pages import Page, find_page
from stages.config.product import Product
from stages.config.products import Products
from stages.runtime.errors import InputError


class Catalog:
    """All products and pages of configs/."""

    def __init__(
        self,
        configs: Configs,
        results: Path,
        contents: Contents,
        changes: Mapping[str, Any] | None = None,
    ) -> None:
        self.configs, self.results, self.contents = configs, results, contents
        self.changes = changes or {}
        self.products = Products(configs, results, contents)
        self._changed: dict[tuple[str, ...], Products] = {}
        self._pages: dict[tuple[str, tuple[str, ...]], Page] = {}

    def page(self, name: str) -> Page:
        """The page of a target, with the options of the command line.

        Raises InputError where an experiment of the target refuses these.
        """
        return self._page(name, tuple(self.configs.members(name)) if self.changes else ())

    def _page(self, name: str, changed: tuple[str, ...] = ()) -> Page:
        """The page of a target with the options of the command line for some experiments."""
        key = name, changed
        if key not in self._pages:
            self._pages[key] = find_page(self._with_changes(changed), name)
        return self._pages[key]

    def find_page(self, identity: str) -> Page:
        """The page of a folder in work/report/. Raises InputError if no target has it."""
        name = identity.rpartition("-")[0]
        if self.configs.members(name):
            for find in (self._page, self.page):
                if (page := find(name)).product.id == identity:
                    return page
        raise self._unknown(f"work/report/{identity}")

    def find(self, kind: str, identity: str) -> Product:
        """The product of a folder in work/. Raises InputError if no experiment has it."""
        for products in self._all_products(identity.rpartition("-")[0]):
            if (product := products.find(kind, identity)) is not None:
                return product
        raise self._unknown(f"work/{kind}/{identity}")

    def run_name(self, product: Product) -> str:
        """What trackers call a training: the experiment that asks for it, and its kind.

        Of several experiments that share it, it is the first.
        """
        known = [*self._changed.values(), self.products]
        experiments = (pair for made in known for pair in made.configs.experiments.items())
        name = next(name for name, experiment in experiments if experiment is product.owner)
        return f"{name}/{product.kind}"

    def _all_products(self, dataset: str) -> Iterator[Products]:
        """Those of the targets first, so that their resources count."""
        yield from self._changed.values()
        yield self.products
        for name, experiment in self.configs.experiments.items():
            if self.changes and experiment.dataset == dataset:
                try:
                    yield self._with_changes((name,))
                except InputError:  # an experiment that has no such option is no target
                    continue

    def _with_changes(self, experiments: tuple[str, ...]) -> Products:
        if not experiments:
            return self.products
        if experiments not in self._changed:
            configs = self.configs.with_changes(experiments, self.changes)
            self._changed[experiments] = Products(configs, self.results, self.contents)
        return self._changed[experiments]

    def _unknown(self, folder: str) -> InputError:
        return InputError(
            f"{self.results / folder}: made by no experiment of {self.configs.folder}; options or"
            " files have changed since the run began: start it again"
        )


def contents_of(results: Path, is_frozen: bool = False) -> Contents:
    """The digests of files that the results of a folder depend on."""
    return Contents(results / "work" / "contents.json", is_frozen)
