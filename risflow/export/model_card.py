"""A model file copied for others, with a card in Markdown that says what it is."""

import json
import shutil
from pathlib import Path
from typing import Any

import yaml

from risflow.project.project import CONFIGS, read_project
from stages.config.experiment import Experiment
from stages.models.saved import STAGE1, Saved, load_model
from stages.reporting.table import label_in_comparison, text_table
from stages.runtime.errors import InputError
from stages.storage.files import read_json, replacing
from stages.storage.weights import load_about

CARD = "MODEL_CARD.md"
NAMES = {
    STAGE1: "TRIS stage 1: response maps, learned from images and expressions without any mask",
    "tris": "the segmentor of TRIS (its stage 2)",
    "cris": "a CRIS segmentor",
    "etris": "an ETRIS segmentor",
    "detris": "a DETRIS segmentor",
    "rela": "a GRES/ReLA segmentor, which also says when nothing is meant",
}
USE = """\
For research on referring image segmentation, and as a start for labels that a person checks. It
reads English expressions as short as those that it was trained on and gives one mask for each.

- It is as good as its training data: other kinds of pictures or words need a test of their own.
- Most training data name only what is there: a model marks something also where nothing fits.
- Scores and map values rank pixels of one picture; they are no probabilities, and those of two
  models cannot be compared.
- Do not use it to identify people, or where a wrong mask does harm and nobody looks.
- Licenses of the training data and of the pretrained encoders hold for these weights too.
"""


def export_with_card(model: Path, out: Path) -> list[Path]:
    """Copy a model and what it names by relative paths, and write its card; returns all files.

    Raises InputError for a file that holds no model.
    """
    saved = load_model(model)
    about = load_about(model)
    copies = {out: model, **_named_files(saved, about, out.parent)}
    for target, source in copies.items():
        if target.resolve() == source.resolve():
            raise InputError(f"--out: {target} is there already, as what is exported; name another")
        with replacing(target) as temporary:
            shutil.copyfile(source, temporary)
    card = out.with_name(CARD)
    with replacing(card) as temporary:
        temporary.write_text(model_card(saved, about, model, out))
    return [*copies, card]


def _named_files(saved: Saved[Any], about: dict[str, str], folder: Path) -> dict[Path, Path]:
    """What a model cannot be built without, where it is looked for around a model of `folder`."""
    named: dict[str | None, Any] = {
        json.loads(about["clip"])["model"]: saved.clip.model,
        json.loads(about["config"]).get("vocabulary"): getattr(saved.config, "vocabulary", None),
    }
    return {
        folder / name: Path(found)
        for name, found in named.items()
        if name is not None and Path(name).suffix and not Path(name).is_absolute()
    }


def model_card(saved: Saved[Any], about: dict[str, str], model: Path, out: Path) -> str:
    """The card of a model that is exported to `out`, by what lies around the model's own file."""
    name = model.resolve().parent.parent.name
    experiment = read_project().experiments.get(name) if CONFIGS.is_dir() else None
    metrics = _metrics(model)
    dataset = metrics[0]["dataset"] if metrics else experiment.dataset if experiment else None
    parts = [
        f"# {out.stem}\n\nA model file of risflow: {NAMES[about['kind']]}.",
        f"It sees {saved.image_size} x {saved.image_size} pixels, framed as `{saved.model.framing}`"
        f", and reads {saved.clip.context_length} tokens of an expression.",
        _section("Use", f"{_loading(out)}\n\n{USE}"),
        _section("Training data", _data(dataset, experiment)),
        _section("Scores", _scores(metrics)),
        _section("Made with", _facts(model)),
        _section(
            "Options", _options("config", about) + "\n\nIts CLIP:\n\n" + _options("clip", about)
        ),
    ]
    return "\n\n".join(part.rstrip() for part in parts) + "\n"


def _section(title: str, text: str) -> str:
    return f"## {title}\n\n{text}"


def _loading(out: Path) -> str:
    code = f'model = risflow.load("{out.name}")\nmodel.predict("photo.jpg", ["the red cup"]).masks'
    return f"```python\nimport risflow\n\n{code}\n```"


def _metrics(model: Path) -> list[dict[str, Any]]:
    """The scores of an experiment's model, where the workflow puts them."""
    stage = model.resolve().parent
    return [read_json(path) for path in sorted(stage.parent.glob(f"metrics/{stage.name}-*.json"))]


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


def _facts(model: Path) -> str:
    path = model.with_name("run.json")
    if not path.is_file():
        return "No `run.json` was found beside the model."
    return "\n".join(f"- {name}: {value}" for name, value in read_json(path).items() if value)


def _options(part: str, about: dict[str, str]) -> str:
    return f"```yaml\n{yaml.safe_dump(json.loads(about[part]), sort_keys=False).rstrip()}\n```"
