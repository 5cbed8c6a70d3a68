"""What is planned after a change: exactly the steps whose results depend on it."""

import base64
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from stages.config.catalog import Catalog, contents_of
from stages.config.experiment import Experiment
from stages.config.load import load_configs
from stages.config.product import FILES
from stages.config.recipes import step_version
from stages.config.section import Section
from stages.config.variants import parse_changes
from tests.conftest import ROOT, Toy, planned_rules

pytestmark = pytest.mark.workflow

TRIS = "experiments/refshapes_tris.yaml"
MASKS = "experiments/refshapes_tris_masks.yaml"
DATA = "datasets/refshapes.yaml"

PAGE = {"link_results", "make_report"}
SCORED = {"evaluate", "score"} | PAGE
SEGMENT = {"train_segmentor", "predict"} | SCORED
PSEUDO = {"propagate"} | SEGMENT
AFFINITY = {"train_affinity"} | PSEUDO
LABELS = {"make_labels"} | AFFINITY
MAPS = {"select_maps"} | LABELS
STAGE1 = {"train_stage1"} | MAPS
JUDGE = {"encode_text"} | STAGE1
ALL = {"make_refshapes", "prepare"} | JUDGE

RULES = {  # of each section of an experiment
    "stage1": STAGE1,
    "judge": JUDGE,
    "prms": MAPS,
    "labels": LABELS,
    "affinity": AFFINITY,
    "propagation": PSEUDO,
    "segmentor": SEGMENT,
    "evaluation": {"predict"} | SCORED,
    "report": PAGE,
}
SMALL = {"model": "data/small_clip.json", "weights": "data/small_clip.safetensors"}


def planned(toy: Toy, name: str = "refshapes_tris", changes: str = "") -> set[str]:
    """The rules that a run of an experiment would execute, told by what is not there."""
    contents = contents_of(toy.results)
    catalog = Catalog(load_configs(toy.configs), toy.results, contents, parse_changes(changes))
    page = catalog.page(name)
    rules = {step.step for step in page.steps() if not _is_there(toy, step.folder, step.kind)}
    if not (toy.results / page.product.folder / "report.html").exists():
        rules.add(page.product.step)
    if not (toy.results / name / f".{page.product.digest}").exists():
        rules.add("link_results")
    return rules


def _is_there(toy: Toy, folder: str, kind: str) -> bool:
    pattern = FILES[kind].format(split="*", shard="*", shards="*")
    return any((toy.results / folder).glob(pattern))


@pytest.fixture(autouse=True)
def at_the_root(monkeypatch: pytest.MonkeyPatch) -> None:
    """The toy names the small CLIP as seen from the project."""
    monkeypatch.chdir(ROOT)


@pytest.fixture
def changed(toy: Toy) -> Iterator[Toy]:
    """The toy, whose configuration is as before at the end."""
    kept = toy.folder / "configs.kept"
    shutil.copytree(toy.configs, kept)
    yield toy
    shutil.rmtree(toy.configs)
    kept.rename(toy.configs)


def test_a_finished_demo_plans_nothing(toy: Toy) -> None:
    assert toy.planned() == planned(toy) == set()


def test_a_run_after_a_kill_makes_all_that_is_missing(toy: Toy) -> None:
    """Snakemake left its mark on a file that is whole; what is made of it is not there yet."""
    page = (toy.experiment / "report.html").resolve()
    predictions = toy.experiment / "predictions/segmentor/predictions-val-0-of-1.parquet"
    (scores,) = toy.experiment.glob("scores/segmentor/val.json")
    marked = toy.results / predictions.resolve().relative_to(toy.results.resolve())
    mark = ROOT / ".snakemake/incomplete" / base64.b64encode(str(marked).encode()).decode()
    assert marked.is_file()
    mark.parent.mkdir(parents=True, exist_ok=True)
    away = [(path.resolve(), path.resolve().with_suffix(".away")) for path in (page, scores)]
    for path, aside in away:
        path.rename(aside)
    mark.write_text("{}")
    try:
        assert toy.planned() == {"score", "make_report"}
    finally:
        mark.unlink()
        for path, aside in away:
            aside.rename(path)
    assert toy.planned() == set()


@pytest.mark.parametrize(
    ("step", "rules"), [("select_maps", MAPS), ("train_segmentor", SEGMENT), ("prepare", ALL)]
)
def test_a_forced_step_plans_all_that_is_made_from_it(step: str, rules: set[str], toy: Toy) -> None:
    done = toy.snakemake("--dry-run", f"--forcerun={step}", "demo")
    assert done.returncode == 0, done.stderr[-3000:]
    assert planned_rules(done.stdout + done.stderr) == rules - {"link_results", "make_refshapes"}


@pytest.mark.parametrize(
    ("name", "finding"),
    [
        ("demo", "'demo' is no step; targets stand before"),
        ("train_stage", "did you mean train_stage1?"),
    ],
)
def test_what_is_forced_is_a_step(name: str, finding: str, toy: Toy) -> None:
    """Snakemake takes a target behind --forcerun for one more step."""
    done = toy.snakemake("--dry-run", f"--forcerun={name}")
    assert done.returncode == 1
    assert finding in done.stdout + done.stderr


@pytest.mark.parametrize(
    ("file", "options", "rules"),
    [
        (DATA, {"refshapes": {"seed": 7}}, ALL),
        (TRIS, {"stage1": {"learning_rate": 0.01}}, STAGE1),
        (TRIS, {"stage1": {"clip": {**SMALL, "output_stride": 16}}}, STAGE1),
        (TRIS, {"judge": {**SMALL, "output_stride": 16}}, JUDGE),
        (TRIS, {"judge": {**SMALL, "image_size": 128}}, STAGE1),
        (TRIS, {"prms": {"batch_size": 3}}, MAPS),
        (TRIS, {"labels": {"iterations": 3}}, LABELS),
        (TRIS, {"affinity": {"epochs": 4}}, AFFINITY),
        (TRIS, {"propagation": {"steps": 3}}, PSEUDO),
        (TRIS, {"segmentor": {"dice": 0.5}}, SEGMENT),
        (TRIS, {"evaluation": {"batch_size": 3}}, {"predict"} | SCORED),
        (TRIS, {"evaluation": {"empty_response": "whole_image"}}, SCORED),
        (TRIS, {"evaluation": {"labels": False}}, PAGE),
        (TRIS, {"report": {"examples": 3}}, PAGE),
        (MASKS, {"segmentor": {"dice": 0.5}}, SEGMENT),
        (TRIS, {"resources": {"default": {"threads": 2}}}, set()),
        (TRIS, {"execution": {"default": {"workers": 2, "save_every": 7}}}, set()),
        (TRIS, {"shards": 3}, set()),
        ("config.yaml", {"cache_images": "always", "jobs_per_gpu": 2}, set()),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
def test_snakemake_plans_what_depends_on_an_option(
    changed: Toy, file: str, options: dict[str, object], rules: set[str]
) -> None:
    changed.edit(file, **options)
    assert changed.planned() == planned(changed) == rules


# Values for options that no simple rule finds another valid value of.
OTHERS: dict[str, Any] = {
    "segmentor.model": None,  # another model has other options
    "stage1.clip.model": None,
    "segmentor.clip.model": None,
    "judge.model": None,
    "judge.image_size": None,  # its features of texts stay; see above
    "stage1.image_size": 128,
    "segmentor.image_size": 128,
    "stage1.milestones": [1],
    "affinity.milestones": [1],
    "segmentor.milestones": [1],
    "affinity.crop_size": 196,
    "evaluation.splits": None,  # a split is made beside the others
    "evaluation.labels": None,  # a row of the page, no other number
    "evaluation.empty_response": None,  # no other prediction; see above
} | {
    f"{section}.{option}": value
    for section in ("stage1", "segmentor")
    for option, value in (
        ("validation", {"split": "val"}),
        ("keep", None),  # refused without the others: tests/test_selection.py, test_initialize.py
        ("early_stopping", None),
        ("initialize", None),
        ("first_epoch", None),
    )
}


def recipe_options(section: Section, place: str) -> Iterator[tuple[str, Any]]:
    """Every option of a section and its sections, with its value; paths count by their content."""
    for name in type(section).model_fields:
        value = getattr(section, name)
        if isinstance(value, Section):
            yield from recipe_options(value, f"{place}.{name}")
        elif not isinstance(value, Path):
            yield f"{place}.{name}", value


def another(experiment: Experiment, option: str, value: Any) -> str | None:
    """A change of an option to another value that is valid."""
    if option in OTHERS:
        value = json.dumps(OTHERS[option], separators=(",", ":"))  # options are split at spaces
        return f"{option}={value}" if OTHERS[option] is not None else None
    candidates: list[Any] = [not value] if isinstance(value, bool) else []
    if isinstance(value, int | float) and not isinstance(value, bool):
        candidates = [value + 1, value + 2, value / 2, value * 2, value + 0.1, value - 1]
    if isinstance(value, str) or value is None:
        candidates = [0.5, 3, *_words(experiment, option)]
    for candidate in candidates:
        if candidate == value:
            continue
        try:
            load_configs_with(experiment, option, candidate)
        except (ValidationError, ValueError):
            continue
        return f"{option}={json.dumps(candidate)}"
    raise AssertionError(f"{option}: no other value than {value!r} is known; add one to OTHERS")


def _words(experiment: Experiment, option: str) -> list[str]:
    """The values of an option that is one of some words."""
    section: Any = experiment
    *path, name = option.split(".")
    for part in path:
        section = getattr(section, part)
    actual = str(type(section).model_fields[name].annotation)
    return [word.strip("'\" ") for word in actual.partition("Literal[")[2].strip("]").split(",")]


def load_configs_with(experiment: Experiment, option: str, value: Any) -> Experiment:
    options = experiment.model_dump(mode="json", exclude_unset=True)
    section = options
    *path, name = option.split(".")
    for part in path:
        section = section.setdefault(part, {})
    section[name] = value
    return Experiment.model_validate(options)


def test_every_option_of_a_recipe_plans_its_step_and_what_follows(toy: Toy) -> None:
    experiment = load_configs(toy.configs).experiments["refshapes_tris"]
    tried = 0
    for section, rules in RULES.items():
        for option, value in recipe_options(getattr(experiment, section), section):
            change = another(experiment, option, value)
            if change is None:
                continue
            assert planned(toy, changes=change) == rules, change
            tried += 1
    assert tried > 90


def test_another_split_is_made_beside_the_others(changed: Toy) -> None:
    changed.edit(TRIS, evaluation={"splits": ["val", "testA"]})
    assert changed.planned() == {"select_maps", "make_labels", "propagate", "predict"} | SCORED


def test_every_option_of_the_generated_data_set_plans_everything(changed: Toy) -> None:
    for name, value in {"seed": 7, "size": 64, "train_images": 25, "val_images": 9}.items():
        changed.edit(DATA, refshapes={name: value})
        assert planned(changed) == ALL, name


def test_every_execution_option_plans_nothing(changed: Toy) -> None:
    options = {"workers": 3, "save_every": 9, "crf": "torch", "trackers": ["csv", "tensorboard"]}
    for name, section in options.items():
        step = "make_labels" if name == "crf" else "train_stage1"
        changed.edit(TRIS, execution={"default": {name: section}, step: {name: section}})
        assert planned(changed) == set(), name


def test_a_new_option_with_its_default_plans_nothing(
    toy: Toy, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Labels(type(Experiment(dataset="refshapes").labels)):  # type: ignore[misc]
        smoothing: int = 4

    kept = load_configs(toy.configs)
    experiment = kept.experiments["refshapes_tris"]
    newer = Labels.model_validate(experiment.labels.model_dump())
    assert "smoothing" in newer.model_dump()
    experiments = {
        **kept.experiments,
        "refshapes_tris": experiment.model_copy(update={"labels": newer}),
    }
    object.__setattr__(kept, "experiments", experiments)
    page = Catalog(kept, toy.results, contents_of(toy.results)).page("refshapes_tris")
    assert (toy.results / page.product.folder / "report.html").exists()


def test_a_raised_version_of_a_step_plans_it_and_what_follows(
    toy: Toy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for package in ("stages", "irnet"):
        (tmp_path / package).mkdir()
        for module in (ROOT / package).glob("*.py"):
            shutil.copy(module, tmp_path / package)
    propagate = tmp_path / "irnet/propagate.py"
    text = propagate.read_text()
    version = f"\nVERSION = {step_version('propagate')}\n"
    assert version in text
    propagate.write_text(text.replace(version, "\nVERSION = 1000\n"))
    for module in ("products", "pages"):
        monkeypatch.setattr(
            f"stages.config.{module}.step_version", lambda step: step_version(step, tmp_path)
        )
    assert planned(toy) == PSEUDO


def own_data(toy: Toy) -> Path:
    """The toy's images as a user's own table; the folder with both. Its samples are made."""
    folder = toy.folder / "own"
    if not folder.exists():
        folder.mkdir()
        source = next((toy.results / "work/shapes").glob("refshapes-*"))
        names = [path.name for path in sorted((source / "images").iterdir())[:6]]
        for name in names:
            shutil.copy(source / "images" / name, folder / name)
        rows = "".join(f"{name},the circle\n" for name in names)
        (folder / "table.csv").write_text(f"image,expression\n{rows}")
    content = {"source": "table", "annotations": str(folder / "table.csv"), "images": str(folder)}
    (toy.configs / "datasets/own.yaml").write_text(yaml.safe_dump(content))
    done = toy.snakemake("prepare_own")
    assert done.returncode == 0, done.stderr[-3000:]
    return folder


def test_annotations_and_images_count_by_their_content(changed: Toy) -> None:
    folder = own_data(changed)
    prepare = {"prepare", "prepare_own"}
    table, image = folder / "table.csv", next(folder.glob("*.jpg"))
    assert changed.planned("prepare_own") == set()
    table.touch()
    assert changed.planned("prepare_own") == set()
    text = table.read_text()
    table.write_text(text.replace("the circle", "the round one", 1))
    assert changed.planned("prepare_own") == prepare
    table.write_text(text)
    assert changed.planned("prepare_own") == set()
    status = image.stat()
    other = folder / "other.jpg"
    shutil.copy(next(path for path in folder.glob("*.jpg") if path != image), other)
    kept = image.read_bytes()
    other.replace(image)
    assert changed.planned("prepare_own") == prepare
    image.write_bytes(kept)
    os.utime(image, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert changed.planned("prepare_own") == set()


def test_weights_that_are_touched_cause_nothing_and_changed_ones_all_that_reads_them(
    changed: Toy,
) -> None:
    weights = changed.folder / "small_clip.safetensors"
    shutil.copy(ROOT / "data/small_clip.safetensors", weights)
    content = yaml.safe_load((changed.configs / TRIS).read_text())
    for section in (content["stage1"]["clip"], content["segmentor"]["clip"], content["judge"]):
        section["weights"] = str(weights)
    (changed.configs / TRIS).write_text(yaml.safe_dump(content))
    assert changed.planned() == set()  # the same weights, at another place
    weights.touch()
    assert changed.planned() == set()
    with weights.open("ab") as file:
        file.write(b"\0")
    assert changed.planned() == planned(changed) == JUDGE


@pytest.mark.long
def test_an_option_that_is_changed_back_computes_nothing(changed: Toy) -> None:
    changed.edit(TRIS, report={"examples": 3})
    assert changed.planned() == PAGE
    done = changed.snakemake("demo")
    assert done.returncode == 0, done.stderr[-3000:]
    page = changed.experiment / "report.html"
    other = page.resolve()
    changed.edit(TRIS, report={"examples": 24})
    assert changed.planned() == {"link_results"}
    done = changed.snakemake("demo")
    assert done.returncode == 0, done.stderr[-3000:]
    assert page.resolve() != other and page.is_file() and other.is_file()
    assert changed.planned() == set()


def test_an_experiment_that_is_renamed_computes_nothing_but_its_page(changed: Toy) -> None:
    (changed.configs / TRIS).rename(changed.configs / "experiments/renamed.yaml")
    changed.edit("config.yaml", demo="renamed")
    text = (changed.configs / "config.yaml").read_text()
    (changed.configs / "config.yaml").write_text(text.replace("- refshapes_tris\n", "- renamed\n"))
    folder = changed.configs / "experiments"
    for pattern in ("*_pseudo.yaml", "refshapes_beyond*.yaml", "refshapes_hard_*.yaml"):
        for path in folder.glob(pattern):
            path.unlink()
    comparisons = {"demo_segmentors": ["renamed"], "beyond_demo": ["renamed"]}
    changed.edit("config.yaml", comparisons=comparisons)
    assert changed.planned() == planned(changed, "renamed") == PAGE


def test_a_second_experiment_shares_all_before_its_own_option(changed: Toy) -> None:
    second = {"base": "refshapes_tris", "propagation": {"steps": 3}}
    (changed.configs / "experiments/second.yaml").write_text(yaml.safe_dump(second))
    assert changed.planned("second") == PSEUDO | {"second"}
    both = changed.planned("second") | changed.planned()
    assert both == PSEUDO | {"second"}


def test_an_experiment_on_pseudo_masks_of_another_trains_only_its_segmentor(changed: Toy) -> None:
    other = {
        "base": "refshapes_tris",
        "supervision": "pseudo:refshapes_tris",
        "segmentor": {"dice": 0.5},
    }
    (changed.configs / "experiments/other.yaml").write_text(yaml.safe_dump(other))
    assert changed.planned("other") == SEGMENT | {"other"}


def test_a_sweep_makes_all_combinations_and_shares_what_they_have_in_common(changed: Toy) -> None:
    sweep = {
        "base": "refshapes_tris",
        "upper_bound": None,
        "sweep": {"propagation.steps": [3, 64], "segmentor.dice": [0.5, 1.0]},
    }
    (changed.configs / "experiments/grid.yaml").write_text(yaml.safe_dump(sweep))
    done = changed.snakemake("--dry-run", "grid")
    counts = dict(line.split() for line in done.stdout.splitlines() if len(line.split()) == 2)
    # Two sets of pseudo masks, one of which is there; four segmentors, one of which is there.
    assert counts["propagate"] == "1" and counts["train_segmentor"] == "3"
    assert counts["compare"] == "1" and "train_affinity" not in counts


def test_options_of_the_command_line_are_checked_and_hold_for_the_target_alone(toy: Toy) -> None:
    def with_set(text: str) -> subprocess.CompletedProcess[str]:
        command = toy.command("--dry-run", "demo")
        command.insert(command.index("--config") + 1, f"set={text}")
        return subprocess.run(command, capture_output=True, text=True, cwd=ROOT)

    done = with_set("propagation.steps=3")
    assert done.returncode == 0, done.stderr
    assert planned(toy, changes="propagation.steps=3") == PSEUDO
    wrong = with_set("propagation.step=3")
    assert wrong.returncode != 0
    assert "propagation.step: no such option; did you mean steps?" in wrong.stdout + wrong.stderr
    assert "Traceback" not in wrong.stderr
    assert "needed option=value" in with_set("steps").stdout


@pytest.mark.parametrize("steps", [["stages", "irnet"]])
def test_every_step_has_a_version(steps: list[str]) -> None:
    """But those that nothing depends on."""
    for package in steps:
        for module in (ROOT / package).glob("[a-z]*.py"):
            if module.stem != "fetch" and not module.stem.startswith("pretrain_"):
                assert step_version(module.stem) >= 1
