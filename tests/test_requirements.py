"""What a target needs of data/, and what it says where that is missing."""

from pathlib import Path

import pytest
import yaml

from stages.config.load import Configs, load_configs
from stages.config.requirements import downloads_of, files_of_dataset, files_of_experiment, missing
from tests.conftest import ROOT

CONFIGS = load_configs(ROOT / "configs")
WEIGHTS = "data/weights"


def with_experiment(tmp_path: Path, **options: object) -> Configs:
    """The configs of a project with these options of an experiment `mine_masks` of own data."""
    (tmp_path / "config.yaml").write_text("demo: mine_masks")
    (tmp_path / "downloads.yaml").write_text((ROOT / "configs/downloads.yaml").read_text())
    for kind, name, content in [
        ("datasets", "mine", {"source": "table", "annotations": "a.csv", "images": "photos"}),
        ("experiments", "mine_masks", {"dataset": "mine", **options}),
    ]:
        (tmp_path / kind).mkdir()
        (tmp_path / kind / f"{name}.yaml").write_text(yaml.safe_dump(content))
    return load_configs(tmp_path)


def names(files: list[Path]) -> list[str]:
    return [str(path) for path in files]


def test_own_data_need_their_pictures_and_the_weights_of_every_stage(tmp_path: Path) -> None:
    configs = with_experiment(tmp_path)
    assert names(files_of_dataset("mine", configs)) == ["a.csv", "photos"]
    files = files_of_experiment("mine_masks", configs)
    weights = [f"{WEIGHTS}/{name}" for name in ("RN50.pt", "ViT-B-32.pt", "resnet50.pth")]
    assert names(files) == ["a.csv", "photos", *weights]
    assert downloads_of(files, configs) == ["clip", "resnet"]


@pytest.mark.parametrize(
    ("options", "weights"),
    [
        ({"supervision": "masks"}, ["data/weights/RN50.pt"]),
        ({"supervision": "masks", "checkpoint": "official.pth"}, ["official.pth"]),
        ({"supervision": "masks", "segmentor": {"model": "rela"}}, []),
        (
            {
                "supervision": "masks",
                "checkpoint": "official.pth",
                "segmentor": {"model": "rela", "backbone_weights": "a.pth", "vocabulary": "words"},
            },
            ["official.pth", "words"],
        ),
        (
            {"supervision": "pseudo", "checkpoint": "two.pth", "stage1_checkpoint": "one.pth"},
            ["two.pth", "one.pth"],
        ),
    ],
)
def test_only_what_is_read_is_needed(
    tmp_path: Path, options: dict[str, object], weights: list[str]
) -> None:
    configs = with_experiment(tmp_path, **options)
    assert names(files_of_experiment("mine_masks", configs)) == ["a.csv", "photos", *weights]


def test_the_embedded_data_set_needs_nothing_but_the_small_encoders() -> None:
    clips = ("small_clip.json", "small_clip.safetensors", "placed_clip.json")
    kept = {f"data/{name}" for name in (*clips, "placed_clip.safetensors", "mini_dino.safetensors")}
    for name, experiment in CONFIGS.experiments.items():
        if experiment.dataset.startswith("refshapes"):
            assert set(names(files_of_experiment(name, CONFIGS))) <= kept
            assert missing(name, files_of_experiment(name, CONFIGS), CONFIGS) is None


def test_a_mix_needs_what_its_members_do() -> None:
    files = names(files_of_dataset("refcoco_mixed", CONFIGS))
    assert len(files) == len(set(files))
    annotations = {f"data/refer/{name}/instances.json" for name in ("refcoco", "refcoco+")}
    assert annotations | {"data/refer/refcocog/refs(umd).p", "data/images/train2014"} < set(files)


def test_all_that_is_missing_is_named_with_what_fetches_it(tmp_path: Path) -> None:
    here = tmp_path / "photos"
    here.mkdir()
    files = [here, Path("data/refer/refcoco"), Path(f"{WEIGHTS}/RN50.pt"), Path("mine.csv")]
    assert missing("it", files, CONFIGS) == (
        "it needs data/refer/refcoco, data/weights/RN50.pt, mine.csv: not there;"
        " `snakemake --cores 1 fetch_refcoco fetch_clip` gets what is public;"
        " data/README.md says what belongs there"
    )
    alone = missing("it", [Path("mine.csv")], CONFIGS)
    assert alone == "it needs mine.csv: not there; data/README.md says what belongs there"
