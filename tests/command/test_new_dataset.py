"""Own pictures become a data set and an experiment that the workflow takes."""

import json
import shutil
from pathlib import Path

import pandas as pd
import pytest

from stages import prepare
from stages.config.load import load_configs
from stages.storage.tables import read_samples
from tests.command.conftest import Command
from tests.conftest import ROOT


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the configuration, and some pictures without expressions."""
    shutil.copytree(ROOT / "configs", tmp_path / "configs")
    shutil.copytree(ROOT / "workflow", tmp_path / "workflow")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def folder(project: Path, image_file: Path) -> Path:
    photos = project / "my photos"
    (photos / "more").mkdir(parents=True)
    shutil.copy(image_file, photos / "a.png")
    shutil.copy(image_file, photos / "more/b.PNG")
    return photos


def write_texts(folder: Path) -> None:
    (folder / "a.txt").write_text("\ufeffthe red square\n\n a red thing \nthe red square\n")
    (folder / "more/b.txt").write_text('das "rote", Täfelchen\n', encoding="utf-8")
    (folder / "notes.txt").write_text("of no picture")


def test_texts_beside_pictures_become_a_table_that_is_taken(
    risflow: Command, project: Path, folder: Path
) -> None:
    write_texts(folder)
    done = risflow("new-dataset", folder)
    assert done.exit_code == 0, done.output
    assert done.stdout.splitlines() == [
        "snakemake --cores all prepare_mine",
        "snakemake --cores all mine_masks",
    ]
    refusal = done.stderr.replace("\n", " ")
    assert "expressions.csv: 3 expressions of 2 pictures, each of an object of its own" in refusal
    assert "no masks" in refusal and "`snakemake --cores 1 fetch_clip fetch_resnet`" in refusal
    configs = load_configs(Path("configs"))
    experiment = configs.experiments["mine_masks"]
    assert experiment.dataset == "mine" and experiment.evaluation.splits == ("train",)
    assert experiment.stage1.clip.model == "RN50"
    assert configs.datasets["mine"].images == Path("my photos")
    prepare.run(project / "samples.json", configs.datasets["mine"])
    samples = read_samples(project / "samples.json")
    assert sorted(samples.expressions.text) == [
        "a red thing",
        'das "rote", Täfelchen',
        "the red square",
    ]
    assert {Path(file).name for file in samples.images.file} == {"a.png", "b.PNG"}


def test_pictures_without_an_expression_are_named(
    risflow: Command, folder: Path, image_file: Path
) -> None:
    write_texts(folder)
    assert "left out" not in risflow("new-dataset", folder).stderr
    for name in ("c.png", "more/d.jpg"):
        shutil.copy(image_file, folder / name)
    done = risflow("new-dataset", folder, "--force", "--small-clip")
    assert "2 pictures without an expression are left out: c.png, more/d.jpg" in done.stderr
    assert "texts beside" not in done.stderr
    (folder / "c.txt").write_text("a later one\n")
    told = risflow("new-dataset", folder, "--force").stderr
    assert "texts beside pictures are not read while there is expressions.csv" in told
    experiment = load_configs(Path("configs")).experiments["mine_masks"]
    assert experiment.figures.expected == {} and experiment.reasons == {}


@pytest.mark.parametrize("ending", [".csv", ".jsonl", ".parquet"])
def test_a_table_is_taken_as_it_is(
    risflow: Command, project: Path, folder: Path, ending: str
) -> None:
    (folder / "images").mkdir()
    (folder / "a.png").rename(folder / "images/a.png")
    rows = [("a.png", "red", "val"), ("a.png", "square", "train")]
    table = pd.DataFrame(rows, columns=["image", "expression", "split"])
    path = folder / f"table{ending}"
    if ending == ".csv":
        table.to_csv(path, index=False)
    elif ending == ".jsonl":
        path.write_text("\n".join(json.dumps(row) for row in table.to_dict(orient="records")))
    else:
        table.to_parquet(path)
    before = path.read_bytes()
    done = risflow("new-dataset", folder, "--name", "photos", "--small-clip")
    assert done.exit_code == 0, done.output
    configs = load_configs(Path("configs"))
    experiment = configs.experiments["photos_masks"]
    assert experiment.evaluation.splits == ("val", "train")
    small = configs.experiments["refshapes_tris"]
    assert (experiment.stage1, experiment.segmentor) == (small.stage1, small.segmentor)
    assert configs.datasets["photos"].images == Path("my photos/images")
    assert path.read_bytes() == before


def test_nothing_is_overwritten_without_force(
    risflow: Command, project: Path, folder: Path
) -> None:
    write_texts(folder)
    assert risflow("new-dataset", folder).exit_code == 0
    own = project / "configs/experiments/mine_masks.yaml"
    own.write_text(own.read_text() + "# mine\n")
    done = risflow("new-dataset", folder)
    assert done.exit_code == 1 and "configs/datasets/mine.yaml: is there; --force" in done.stderr
    (project / "configs/datasets/mine.yaml").unlink()
    done = risflow("new-dataset", folder)
    assert done.exit_code == 1 and "dataset: 'mine' is not known" in done.stderr
    assert own.read_text().endswith("# mine\n")
    (project / "configs/datasets/mine.yaml").write_text("source: table\n")
    assert risflow("new-dataset", folder, "--force").exit_code == 0
    assert not own.read_text().endswith("# mine\n")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("my photos", "needed a word"),
        ("../mine", "needed a word"),
        ("2mine", "needed a word"),
        ("class", "needed a word"),
        ("", "needed a word"),
        ("refshapes_tris", "an experiment is called refshapes_tris"),
        ("demo_segmentors", "a comparison is called"),
        ("prepare", "a step of the workflow is called"),
        ("demo", "a target of the workflow is called"),
        ("fetch_coco", "names that begin with fetch_ are the workflow's"),
        ("refcoco", "a data set of source refer has this name"),
    ],
)
def test_names_are_words_that_nothing_else_has(
    risflow: Command, project: Path, folder: Path, name: str, message: str
) -> None:
    write_texts(folder)
    before = sorted(project.rglob("*"))
    done = risflow("new-dataset", folder, "--name", name, "--force")
    assert done.exit_code == 1 and message in done.stderr, done.output
    assert sorted(project.rglob("*")) == before


def test_a_folder_without_expressions_is_told(
    risflow: Command, project: Path, folder: Path
) -> None:
    before = sorted(project.rglob("*"))

    def refusal(where: Path) -> str:
        done = risflow("new-dataset", where)
        assert done.exit_code == 1 and done.stderr.count("\n") == 1, done.output
        assert not (project / "configs/datasets/mine.yaml").exists()
        return done.stderr

    assert "no such folder" in refusal(project / "nowhere")
    assert "no picture with a text beside it" in refusal(folder)
    assert sorted(project.rglob("*")) == before
    (folder / "t.csv").write_text("picture,text\na.png,red\n")
    assert "t.csv: no column 'image' among picture, text" in refusal(folder)
    (folder / "t.csv").write_text("image,expression\nc.png,red\n")
    assert "t.csv:2: image 'c.png' is neither in" in refusal(folder)
    (folder / "t.csv").write_text("image,expression\n")
    assert "t.csv: no rows" in refusal(folder)
    (folder / "t.csv").write_text("image,expression,split\na.png,red,val\n")
    assert "splits val; needed train to learn from" in refusal(folder)
    (folder / "u.csv").write_text("")
    assert "several tables (t.csv, u.csv)" in refusal(folder)
