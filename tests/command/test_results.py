"""Downloads, reports and comparisons from the command."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from stages.storage.files import write_json
from tests.command.conftest import Command
from tests.conftest import ROOT


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the configuration without results."""
    shutil.copytree(ROOT / "configs", tmp_path / "configs")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write_scores(name: str, scored: str, split: str, mean_iou: float) -> None:
    about = {"dataset": "refshapes", "scored": scored, "split": split}
    scores = {"mean_iou": mean_iou, "overall_iou": mean_iou}
    write_json(Path(f"results/{name}/scores/{scored}/{split}.json"), {**about, "scores": scores})


def test_the_list_of_downloads_says_what_is_there(risflow: Command, project: Path) -> None:
    done = risflow("fetch", "--list")
    assert done.exit_code == 0, done.output
    rows = {line.split()[0]: line for line in done.stdout.splitlines()}
    assert "13.5 GB" in rows["coco"] and "CC BY 4.0" in rows["coco"]
    assert rows["clip"].split() == ["clip", "4", "-", "MIT", "no"]
    (project / "data/weights").mkdir(parents=True)
    (project / "data/weights/RN50.pt").touch()
    (project / "data/weights/resnet50.pth").touch()
    (project / "data/images/train2014").mkdir(parents=True)
    rows = {line.split()[0]: line for line in risflow("fetch", "--list").stdout.splitlines()}
    assert rows["clip"].endswith("1 of 4")
    assert rows["resnet"].split()[-1] == rows["coco"].split()[-1] == "yes"


def test_downloads_are_fetched_by_name(risflow: Command, project: Path) -> None:
    (project / "there.bin").write_bytes(b"weights")
    url = (project / "there.bin").as_uri()
    about = {"source": "https://example.org", "license": "MIT"}
    files = {"tiny": [{"path": "weights/tiny.bin", "urls": [url], **about}]}
    (project / "configs/downloads.yaml").write_text(yaml.safe_dump({"downloads": files}))
    done = risflow("fetch", "tiny")
    assert done.exit_code == 0, done.output
    assert (project / "data/weights/tiny.bin").read_bytes() == b"weights"
    assert (project / "results/downloads/tiny.json").is_file()
    done = risflow("fetch", "tinny")
    assert done.exit_code == 1 and "'tinny' is no download; known: tiny" in done.stderr
    assert risflow("fetch").exit_code == risflow("fetch", "tiny", "--list").exit_code == 2


def test_the_page_of_an_experiment_is_found(risflow: Command, project: Path) -> None:
    done = risflow("report", "refshapes_tris")
    assert done.exit_code == 1
    assert "not made yet: snakemake --cores all refshapes_tris" in done.stderr
    page = project / "results/refshapes_tris/report.html"
    page.parent.mkdir(parents=True)
    page.touch()
    assert risflow("report", "refshapes_tris").stdout.strip() == str(page)
    done = risflow("report", "refshapes_triss")
    assert done.exit_code == 1 and "did you mean refshapes_tris?" in done.stderr


def test_a_comparison_shows_what_there_is_and_says_what_is_missing(
    risflow: Command, project: Path
) -> None:
    names = ("refshapes_cris", "refshapes_tris_masks", "refshapes_tris")
    done = risflow("compare", *names)
    assert done.exit_code == 1 and "nothing to compare yet" in done.stderr
    write_scores("refshapes_cris", "center_box", "val", 0.075)
    write_scores("refshapes_cris", "segmentor", "val", 0.25)
    write_scores("refshapes_tris_masks", "segmentor", "val", 0.5)
    done = risflow("compare", *names)
    assert done.exit_code == 0, done.output
    assert done.stderr.splitlines() == [
        "refshapes_tris: not scored on val yet: snakemake --cores all refshapes_tris"
    ]
    rows = done.stdout.splitlines()
    shown = {name: next(row for row in rows if row.startswith(name)) for name in names[:2]}
    assert any(row.startswith("center box") for row in rows)
    assert "25.0" in shown["refshapes_cris"] and "50.0" in shown["refshapes_tris_masks"]
    told = json.loads(risflow("compare", *names, "--json").stdout)
    assert [(one["experiment"], one["scored"], one["scores"]["mean_iou"]) for one in told] == [
        ("refshapes_cris", "center_box", 0.075),
        ("refshapes_cris", "segmentor", 0.25),
        ("refshapes_tris_masks", "segmentor", 0.5),
    ]


@pytest.mark.parametrize(
    "arguments", [["--help"], ["fetch", "--list"], ["new-dataset", "nowhere"], ["report", "none"]]
)
def test_what_computes_nothing_does_not_import_torch(arguments: list[str]) -> None:
    check = (
        "import sys\n"
        "from typer.testing import CliRunner\n"
        "from risflow.cli import app\n"
        f"CliRunner().invoke(app, {arguments})\n"
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", check]).returncode == 0
