"""Why a step would run: what differs between its product and the one that was there before."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from risflow.project.references import STEPS, read_catalog
from risflow.project.run_options import DEFAULTS, RunOptions
from risflow.status.plan import Job, read_plan
from stages.config.load import Configs
from stages.config.pages import Page
from stages.config.product import FILES, Product
from stages.config.recipes import flatten
from stages.config.variants import parse_changes
from stages.runtime.errors import InputError
from stages.storage.steps import read_steps

Step = Mapping[str, Any]  # an entry of steps.yaml


def find_reasons(
    target: str, configs: Configs, options: RunOptions = DEFAULTS
) -> list[tuple[str, str]]:
    """The steps that a run of the target would execute now, in their order, each with the reason.

    Raises InputError where the target cannot be planned.
    """
    try:
        catalog = read_catalog(configs, parse_changes(options.changes))
    except ValueError as error:
        raise InputError(f"--config set: {error}") from None
    name = configs.settings.demo if target == "demo" else target
    page = catalog.page(name) if configs.members(name) else None
    before = _steps_before(configs.settings.results / name / STEPS)
    products = {step.folder: step for step in page.steps()} if page is not None else {}
    reasons = []
    for job in read_plan(target, options):
        if job.to_do:
            product = products.get(_folder(job))
            reason = "it shows new results"  # a page: the steps above say what is new
            if product is not None:
                reason = explain(product, before, page)
            reasons.append((job.rule, reason))
    return list(dict.fromkeys(reasons))


def _folder(job: Job) -> str:
    """The folder of the product of a job: the wildcard of its digest has the name of its kind."""
    kind = next((name for name in job.wildcards if name in FILES), "")
    return f"work/{kind}/{job.wildcards.get(kind)}"


def _steps_before(steps: Path) -> dict[str, Step]:
    """What the page was last made of, by what it was for it; nothing where it never was."""
    if not steps.is_file():
        return {}
    page = read_steps(steps)
    by_place = {step["place"]: step for step in page["steps"]}
    named = {name: by_place[place] for name, place in page["links"].items() if place in by_place}
    rest = {_role(step["step"], step["options"]): step for step in page["steps"]}
    return {**rest, **by_place, **named}


def _role(step: str, options: Mapping[str, Any]) -> str:
    """What a product without a link of its own is for its page."""
    return f"{step} of {options.get('scored', 'another')}"


def explain(product: Product, before: Mapping[str, Step], page: Page | None) -> str:
    """One line: what differs from the product that had the same place in the page before."""
    if not before:
        return "it was never made"
    if product.folder in before:
        return "its result is not there, or a part of it"
    names = {made.folder: name for name, made in page.links.items()} if page else {}
    old = before.get(names.get(product.folder, _role(product.step, product.options)))
    if old is None:
        return "it was not needed before"
    own = [*_changed_version(product, old), *_changed_options(product, old)]
    own += _changed_files(product, old)
    if own:
        return "; ".join(own)
    return f"it is made from {' and '.join(_new_sources(product, old))}"


def _changed_version(product: Product, old: Step) -> Iterator[str]:
    if product.step != old["step"]:
        yield f"{product.step} in place of {old['step']}"
    elif product.version != old["version"]:
        yield f"version {product.version} of the step, {old['version']} before"


def _changed_options(product: Product, old: Step) -> Iterator[str]:
    now, then = flatten(product.options), flatten(old["options"])
    for name in dict.fromkeys([*now, *then]):
        if now.get(name) != then.get(name):
            yield f"{name}: {then.get(name, 'default')} -> {now.get(name, 'default')}"


def _changed_files(product: Product, old: Step) -> Iterator[str]:
    then = old["files"]
    for path, content in product.files.items():
        if path not in then and content not in then.values():
            yield f"{path} is read"
        elif path in then and then[path] != content:
            yield f"{path} has another content"


def _new_sources(product: Product, old: Step) -> list[str]:
    return [
        f"new {source.kind.replace('_', ' ')}"
        for source in product.sources
        if source.folder not in old["sources"]
    ]
