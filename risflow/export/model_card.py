"""Copy a model file to share it, with a model card in Markdown."""

import shutil
from pathlib import Path
from typing import Any

import yaml

from risflow.project.project import CONFIGS, read_project
from stages.config.encoders import ClipSource
from stages.config.experiment import Experiment
from stages.config.hub import HubFile
from stages.config.section import Section
from stages.models.saved import STAGE1, Saved, load_model, read_options
from stages.reporting.table import label_in_comparison, text_table
from stages.runtime.errors import InputError
from stages.storage.files import read_json, replacing
from stages.storage.weights import load_about

CARD, HUB_CARD = "MODEL_CARD.md", "README.md"
# What the hub reads of a card: https://huggingface.co/docs/hub/model-cards.
HUB_HEAD = """\
---
library_name: risflow
pipeline_tag: image-segmentation
tags:
- referring-image-segmentation
- {kind}
---
"""
NAMES = {
    STAGE1: "TRIS stage 1: response maps, learned from images and expressions without any mask",
    "tris": "the segmentor of TRIS (its stage 2)",
    "cris": "a CRIS segmentor",
    "etris": "an ETRIS segmentor",
    "detris": "a DETRIS segmentor",
    "rela": "a GRES/ReLA segmentor, which also predicts that there is no target",
}
USE = """\
For research on referring image segmentation, and as a start for labels that a person checks. It
reads English expressions as short as those that it was trained on and gives one mask for each.

- It is as good as its training data: test it before you use it on other kinds of images or words.
- Most training data only have expressions of objects that exist: a model also predicts a mask if
  nothing in the image fits.
- Scores and map values rank the pixels of one image. They are not probabilities, and those of two
  models cannot be compared.
- Do not use it to identify people, or for decisions about people without a person who checks.
- Licenses of the training data and of the pretrained encoders hold for these weights too.
"""


def export_with_card(model: Path, out: Path, repository: str | None = None) -> list[Path]:
    """Copy a model and what it names by relative paths, and write its card; returns all files.

    The card is that of a `repository` of the Hugging Face hub, if one is given. Raises InputError
    for a file that holds no model.
    """
    saved = load_model(model)
    about = load_about(model)
    copies = {out: model, **_named_files(saved, about, out.parent)}
    for target, source in copies.items():
        if target.resolve() == source.resolve():
            raise InputError(f"--out: {target} is there already, as what is exported; name another")
        with replacing(target) as temporary:
            shutil.copyfile(source, temporary)
    card = out.with_name(CARD if repository is None else HUB_CARD)
    with replacing(card) as temporary:
        temporary.write_text(model_card(saved, about, model, out, repository))
    return [*copies, card]


def _named_files(saved: Saved[Any], about: dict[str, str], folder: Path) -> dict[Path, Path]:
    """What a model cannot be built without, where it is looked for around a model of `folder`."""
    trained, loaded = read_options(about, folder), saved.config
    named: dict[str | None, Any] = {
        _clip_model(trained): _clip_model(loaded),
        getattr(trained, "vocabulary", None): getattr(loaded, "vocabulary", None),
    }
    return {
        folder / name: Path(place)
        for name, place in named.items()
        if name is not None
        and place is not None
        and Path(name).suffix
        and not Path(name).is_absolute()
    }


def _clip_model(config: Section) -> str | None:
    clip = getattr(config, "clip", None)
    return clip.model if isinstance(clip, ClipSource) else None


def model_card(
    saved: Saved[Any], about: dict[str, str], model: Path, out: Path, repository: str | None = None
) -> str:
    """The card of a model that is exported to `out`, by what lies around the model's own file."""
    config = read_options(about, model)
    place = _place_in_results(model)
    name = place.parent.name if place is not None else ""
    experiment = read_project().experiments.get(name) if CONFIGS.is_dir() else None
    metrics = _metrics(place) if place is not None else []
    dataset = metrics[0]["dataset"] if metrics else experiment.dataset if experiment else None
    title = repository.partition("/")[2] if repository is not None else out.stem
    sections = [
        f"# {title}\n\nA model file of risflow: {NAMES[about['kind']]}.",
        f"It takes images of {saved.image_size} x {saved.image_size} pixels (resize mode"
        f" `{saved.model.resize_mode}`) and expressions of {config.num_tokens} tokens.",
        _section("Use", f"{_loading(out, repository)}\n\n{USE}"),
        _section("Training data", _data(dataset, experiment)),
        _section("Scores", _scores(metrics)),
        _section("Made with", _provenance(model)),
        _section("Options", _options(config)),
    ]
    head = HUB_HEAD.format(kind=about["kind"]) + "\n" if repository is not None else ""
    return head + "\n\n".join(section.rstrip() for section in sections) + "\n"


def _section(title: str, text: str) -> str:
    return f"## {title}\n\n{text}"


def _loading(out: Path, repository: str | None) -> str:
    name = out.name if repository is None else str(HubFile(repository, out.name))
    code = f'model = risflow.load("{name}")\nmodel.predict("photo.jpg", ["the red cup"]).masks'
    python = f"```python\nimport risflow\n\n{code}\n```"
    if repository is None:
        return python
    return f'```shell\nrisflow predict photo.jpg "the red cup" --model {name}\n```\n\n{python}'


def _place_in_results(model: Path) -> Path | None:
    """The place of a model in the folder of an experiment, results/<experiment>/<stage>."""
    folder = model.absolute().parent
    if (folder.parent / "steps.yaml").is_file():
        return folder
    real = folder.resolve()
    work = next((parent for parent in real.parents if parent.name == "work"), None)
    if work is None:
        return None
    places = sorted(link for link in work.parent.glob("*/*") if link.is_symlink())
    return next((link for link in places if link.resolve() == real), None)


def _metrics(place: Path) -> list[dict[str, Any]]:
    """The scores of an experiment's model, where the workflow puts them."""
    files = sorted((place.parent / "scores" / place.name).glob("*.json"))
    return [{"experiment": place.parent.name, **read_json(path)} for path in files]


def _data(dataset: str | None, experiment: Experiment | None) -> str:
    if dataset is None:
        return "Not known: the file lies in no results of an experiment."
    if experiment is None:
        return f"`{dataset}`"
    kinds = {True: "images and expressions alone, without true masks", False: "true masks"}
    return f"`{dataset}`, learned from {kinds[experiment.from_text]}."


def _scores(metrics: list[dict[str, Any]]) -> str:
    if not metrics:
        return "None were found beside the model."
    return f"```\n{text_table(metrics, label_in_comparison, {}).rstrip()}\n```"


def _provenance(model: Path) -> str:
    path = model.with_name("run.json")
    if not path.is_file():
        return "No `run.json` was found beside the model."
    return "\n".join(f"- {name}: {value}" for name, value in read_json(path).items() if value)


def _options(config: Section) -> str:
    options = config.model_dump(mode="json")
    return f"```yaml\n{yaml.safe_dump(options, sort_keys=False).rstrip()}\n```"
