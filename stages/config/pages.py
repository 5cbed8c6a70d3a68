"""Pages: what a person opens of an experiment or of several, and everything behind it.

A page lives as `work/report/<name>-<digest>/`; `results/<name>/` has links to it and to all that it
shows, and steps.yaml, which says what made it.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from stages.config.baselines import BASELINES
from stages.config.contamination import coco_warning, mix_warning
from stages.config.experiment import Experiment
from stages.config.mask_selection import selection_note
from stages.config.product import MODELS, STORED, Product, everything_behind
from stages.config.products import Products
from stages.config.recipes import recipe, step_version

MOST_SIDE_BY_SIDE = 8  # segmentors whose predictions a comparison shows
TAKEN_AWAY = ("visualized", "masks")  # kinds of what is made for people and other tools
Row = tuple[str, str, str]  # experiment, what is scored, split


@dataclass(frozen=True)
class Page:
    """A page, and what it shows."""

    name: str
    product: Product  # of kind report
    rows: dict[Row, Product]  # the scores that it shows, in their order
    links: dict[str, Product]  # places in the folder of the page: what lies there
    columns: dict[str, Product] = field(default_factory=dict)  # of its examples, by their heads
    trainings: dict[str, Product] = field(default_factory=dict)  # by their titles
    dataset: str = ""  # that examples are of
    split: str = ""

    def taken_away(self) -> Iterator[tuple[Product, str]]:
        """What is written for people and other tools, with its splits."""
        for name, product in self.links.items():
            if product.kind in TAKEN_AWAY and product.owner is not None:
                owner, is_masks = product.owner, name.startswith("masks/")
                for split in owner.mask_splits if is_masks else owner.evaluation.splits:
                    yield product, split

    def steps(self) -> list[Product]:
        """All products behind the page, each after those that it is made from."""
        return everything_behind(self.product.sources)


def find_page(products: Products, name: str) -> Page:
    """The page of an experiment, a comparison, a sweep or a data set."""
    configs = products.configs
    if name in configs.experiments:
        return _report(products, name)
    return _comparison(products, name, configs.members(name))


def _report(products: Products, name: str) -> Page:
    configs = products.configs
    experiment = configs.experiments[name]
    source, bound = configs.source(name), experiment.upper_bound
    own = products.of_experiment(name)
    bound_products = products.of_experiment(bound) if bound else {}
    rows: dict[Row, Product] = {}
    for split in experiment.evaluation.splits:
        rows |= {(name, scored, split): own[f"scores/{scored}"] for scored in BASELINES}
        for scored in ("zero_shot", "stage1", *_stored(experiment)):
            if f"scores/{scored}" in own:
                rows[source, scored, split] = own[f"scores/{scored}"]
        rows[name, "segmentor", split] = own["scores/segmentor"]
        if bound:
            rows[bound, "segmentor", split] = bound_products["scores/segmentor"]
    columns = {kind: own[kind] for kind in _stored(experiment) if kind in own}
    if "votes" in columns:  # they are the response maps of a next round
        columns = {"maps": columns.pop("votes"), **columns}
    rows |= {
        (source, scored, "train"): own[f"scores/{scored}"] for scored in STORED if scored in own
    }
    columns["predictions"] = own["predictions/segmentor"]
    trainings = {kind: own[kind] for kind in MODELS if kind in own}
    if bound:
        columns["upper_bound"] = bound_products["predictions/segmentor"]
        trainings["segmentor, upper bound"] = bound_products["segmentor"]
    trainings = {title: made for title, made in trainings.items() if made.kind != "imported"}
    warnings = (coco_warning(configs, name), mix_warning(configs, name))
    note = "; ".join(filter(None, warnings))
    selection = selection_note(configs, name)
    options = {
        "name": name,
        "note": note,
        **({"selection": selection} if selection is not None else {}),
        "rows": [list(row) for row in rows],
        "report": recipe(experiment.report),
        "figures": experiment.figures.model_dump(mode="json"),
        "reasons": experiment.reasons,
    }
    taken = [made for made in own.values() if made.kind in TAKEN_AWAY]
    sources = tuple(_unique([*rows.values(), *columns.values(), *trainings.values(), *taken]))
    product = Product(
        "report", name, "make_report", step_version("make_report"), options, {}, sources, experiment
    )
    split = _headline(experiment)
    return Page(name, product, rows, _links(own), columns, trainings, experiment.dataset, split)


def _headline(experiment: Experiment) -> str:
    """The split that examples and tiles are of: val, else the first."""
    splits = experiment.evaluation.splits
    return "val" if "val" in splits else splits[0]


def _stored(experiment: Experiment) -> list[str]:
    """What is scored of the evaluated splits as it is stored."""
    return [kind for kind in STORED if kind != "labels" or experiment.evaluation.labels]


def _comparison(products: Products, name: str, experiments: list[str]) -> Page:
    """Segmentors side by side, data set by data set, on the splits of the first of each."""
    configs = products.configs
    of_dataset: dict[str, list[str]] = {}
    for experiment in experiments:
        of_dataset.setdefault(configs.experiments[experiment].dataset, []).append(experiment)
    rows: dict[Row, Product] = {}
    links: dict[str, Product] = {}
    for members in of_dataset.values():
        made = {member: products.of_experiment(member) for member in members}
        for split in configs.experiments[members[0]].evaluation.splits:
            for scored in BASELINES:
                rows[members[0], scored, split] = made[members[0]][f"scores/{scored}"]
            for member in members:
                rows[member, "segmentor", split] = made[member]["scores/segmentor"]
        for member in members:
            links[f"scores/{member}"] = made[member]["scores/segmentor"]
            links[f"segmentor/{member}"] = made[member]["segmentor"]
            links[f"predictions/{member}"] = made[member]["predictions/segmentor"]
    values = {variant.name: dict(variant.values) for variant in configs.sweeps.get(name, [])}
    notes = {member: selection_note(configs, member) for member in experiments}
    selections = [f"{member}: {note}" for member, note in notes.items() if note is not None]
    options = {
        "name": name,
        "rows": [list(row) for row in rows],
        "values": values,
        **({"selections": selections} if selections else {}),
        "figures": {
            experiment: configs.experiments[experiment].figures.model_dump(mode="json")
            for experiment in experiments
        },
    }
    product = Product(
        "report",
        name,
        "compare",
        step_version("compare"),
        options,
        {},
        tuple(_unique(rows.values())),
    )
    dataset, shown = next(iter(of_dataset.items()))
    columns = {member: links[f"predictions/{member}"] for member in shown[:MOST_SIDE_BY_SIDE]}
    split = _headline(configs.experiments[shown[0]])
    return Page(name, product, rows, links, columns, {}, dataset, split)


def _unique(products: Any) -> list[Product]:
    return list({product.folder: product for product in products}.values())


def _links(made: Mapping[str, Product]) -> dict[str, Product]:
    """What lies in the folder of an experiment; the rows behind scores lie beside these."""
    return {name: product for name, product in made.items() if not name.startswith("rows/")}
