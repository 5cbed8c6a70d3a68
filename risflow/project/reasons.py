"""Why a step would run: what differs between its product and the one that was there before."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from risflow.project.references import STEPS, read_catalog
from risflow.status.plan import Job, read_plan
from stages.config.load import Configs
from stages.config.pages import Page
from stages.config.products import FILES, Product
from stages.config.variants import parse_changes
from stages.runtime.errors import InputError

Step = Mapping[str, Any]  # an entry of steps.yaml


def find_reasons(target: str, configs: Configs, changes: str = "") -> list[tuple[str, str]]:
    """The steps that a run of the target would execute now, in their order, each with the reason.

    Raises InputError where the target cannot be planned.
    """
    try:
        catalog = read_catalog(configs, parse_changes(changes))
    except ValueError as error:
        raise InputError(f"--set: {error}") from None
    name = configs.settings.demo if target == "demo" else target
    page = catalog.page(name) if configs.members(name) else None
    before = _steps_before(configs.settings.results / name / STEPS)
    reasons: dict[str, str] = {}
    for job in read_plan(target, changes):
        if not job.to_do:
            continue
        product = _product(job, page)
        reason = "its result is not there"
        if product is not None:
            reason = explain(product, before, page)
        reasons.setdefault(f"{job.rule}: {reason}", reason)
    return [(key.partition(": ")[0], reason) for key, reason in reasons.items()]


def _product(job: Job, page: Page | None) -> Product | None:
    """The product of a job, by the wildcard that its kind is the name of."""
    if page is None:
        return None
    kinds = [kind for kind in job.wildcards if kind in FILES]
    folders = {f"work/{kind}/{job.wildcards[kind]}" for kind in kinds}
    return next((step for step in page.steps() if step.folder in folders), None)


def _steps_before(steps: Path) -> dict[str, Step]:
    """What the page was last made of, by what it was for it; nothing where it never was."""
    if not steps.is_file():
        return {}
    page = yaml.safe_load(steps.read_text())
    by_place = {step["place"]: step for step in page["steps"]}
    named = {name: by_place[place] for name, place in page["links"].items() if place in by_place}
    rest = {f"{step['step']} of another": step for step in page["steps"]}
    return {**rest, **{step["place"]: step for step in page["steps"]}, **named}


def explain(product: Product, before: Mapping[str, Step], page: Page | None) -> str:
    """One line: what differs from the product that had the same place in the page before."""
    if not before:
        return "it was never made"
    if product.folder in before:
        return "its result is not there, or a part of it"
    names = {made.folder: name for name, made in page.links.items()} if page else {}
    old = before.get(names.get(product.folder, f"{product.step} of another"))
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
    now, then = _flat(product.options), _flat(old["options"])
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


def _flat(options: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in options.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{name}.")
        else:
            flat[f"{prefix}{name}"] = value
    return flat
