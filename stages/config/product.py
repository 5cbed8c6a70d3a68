"""One intermediate of an experiment: what it depends on, and its place.

A product lives once, in `work/<kind>/<dataset>-<digest>/`. The digest covers the version of its
step, its recipe, the content of the files that it reads, and the digests of the products it is made
from. Experiments that agree up to a step have one product there, whatever their names.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from stages.config.experiment import Experiment
from stages.config.recipes import digest

# The file that stands for a product; names in braces are wildcards of the workflow.
FILES = {
    "shapes": "instances.json",
    "samples": "samples.json",
    "images": "images.npy",
    "text_features": "text.safetensors",
    "stage1": "model.safetensors",
    "maps": "maps-{split}-{shard}-of-{shards}.parquet",
    "votes": "maps-{split}-{shard}-of-{shards}.parquet",
    "labels": "labels-{split}-{shard}-of-{shards}.parquet",
    "affinity": "model.safetensors",
    "pseudo_masks": "masks-{split}-{shard}-of-{shards}.parquet",
    "regions": "regions-{split}-{shard}-of-{shards}.parquet",
    "assigned": "masks-{split}-{shard}-of-{shards}.parquet",
    "segmentor": "model.safetensors",
    "imported": "model.safetensors",
    "predictions": "predictions-{split}-{shard}-of-{shards}.parquet",
    "rows": "rows-{split}-{shard}-of-{shards}.parquet",
    "scores": "{split}.json",
    "visualized": "visualized-{split}-{shard}-of-{shards}.json",
    "masks": "masks-{split}.json",
}
MODELS = ("stage1", "affinity", "segmentor")  # products of a training
# Scored as they are, without a prediction.
STORED = ("maps", "votes", "labels", "pseudo_masks", "assigned")


@dataclass(frozen=True)
class Product:
    """One intermediate. Two are the same if their kind, data set and digest are."""

    kind: str  # a key of FILES
    dataset: str
    step: str  # the module and the rule that make it
    version: int
    options: Mapping[str, Any] = field(default_factory=dict)  # the recipe
    files: Mapping[str, str] = field(default_factory=dict)  # what it reads from outside: digests
    sources: tuple["Product", ...] = ()
    owner: Experiment | None = None  # whose options its step is given; None: those of the data set

    @cached_property
    def digest(self) -> str:
        return digest(
            {
                "step": self.step,
                "version": self.version,
                "options": dict(self.options),
                "files": list(self.files.values()),
                "sources": [source.digest for source in self.sources],
            }
        )

    @property
    def id(self) -> str:
        return f"{self.dataset}-{self.digest}"

    @property
    def folder(self) -> str:
        """Below the folder of results."""
        return f"work/{self.kind}/{self.id}"

    def source(self, *kinds: str) -> "Product":
        """The product of one of these kinds that this one is made from."""
        return next(source for source in self.sources if source.kind in kinds)


def everything_behind(products: Iterable[Product]) -> list[Product]:
    """The products and all that they are made from, each once, before what needs it."""
    ordered: dict[str, Product] = {}

    def visit(product: Product) -> None:
        if product.folder in ordered:
            return
        for source in product.sources:
            visit(source)
        ordered[product.folder] = product

    for product in products:
        visit(product)
    return list(ordered.values())
