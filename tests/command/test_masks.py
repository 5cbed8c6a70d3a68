"""Masks of an experiment for other tools, by the command: where they go, and what is refused."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from pycocotools.coco import COCO

from stages import prepare
from stages.config.datasets import DatasetConfig
from stages.data.refer import load_plain
from stages.storage.masks import encode
from stages.storage.tables import ResponseMap, map_row, read_samples, read_table, write_table
from tests.command.conftest import Command
from tests.conftest import ROOT, few_shapes

NAME = "refshapes_tris"


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with a map, a label and a pseudo mask of each object of val, in two shards."""
    project = tmp_path_factory.mktemp("project")
    shutil.copytree(ROOT / "configs", project / "configs")
    folder = project / "results" / NAME
    samples = few_shapes(folder / "samples", train_images=1, val_images=4, test_images=1)
    objects = read_samples(samples).split("val").objects
    size = {"height": 96, "width": 96}
    for shard, part in enumerate([objects[:3], objects[3:]]):
        rows: dict[str, list[dict[str, object]]] = {"maps": [], "labels": [], "pseudo_masks": []}
        for row in part.itertuples():
            grid = np.full((6, 6), -1, np.float32)
            grid[2, 3] = 1
            rows["maps"].append(map_row(row.object, ResponseMap(0, grid, 96), [0.5]))
            about = {"object": row.object, **size}
            nothing = encode(np.zeros((96, 96), bool))
            rows["labels"].append({**about, "foreground": row.mask, "ignore": nothing})
            rows["pseudo_masks"].append({**about, "mask": row.mask, "score": 0.5})
        for kind, of_kind in rows.items():
            stem = {"pseudo_masks": "masks"}.get(kind, kind)
            path = folder / kind / f"{stem}-val-{shard}-of-2.parquet"
            path.parent.mkdir(exist_ok=True)
            write_table(path, stem, of_kind)
    return project


@pytest.fixture(autouse=True)
def project(finished: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(finished)
    return finished


@pytest.mark.parametrize(
    ("format", "place", "told"),
    [
        ("png", "out", "; paths of images are relative to the file that they stand in\n"),
        ("labelme", "out.zip", "that they stand in, unpacked into a folder in {folder}\n"),
        ("yolo", "out", " of them empty\n"),
    ],
)
def test_what_names_of_images_are_relative_to_is_told(
    risflow: Command, tmp_path: Path, format: str, place: str, told: str
) -> None:
    arguments = ("--format", format, "--stage", "ground_truth", "--output", tmp_path / place)
    done = risflow("masks", NAME, *arguments)
    assert done.exit_code == 0, done.output
    assert done.stderr.endswith(told.format(folder=tmp_path))
    if format == "png":
        table = pd.read_csv(tmp_path / place / "table.csv")
        assert all((tmp_path / place / image).is_file() for image in table.image)


@pytest.mark.parametrize("stage", ["response", "labels", "pseudo_masks", "ground_truth"])
def test_masks_of_any_stage_are_written_from_all_shards(
    risflow: Command, tmp_path: Path, stage: str
) -> None:
    out = tmp_path / "out.json"
    done = risflow("masks", NAME, "--format", "coco", "--stage", stage, "--output", out)
    assert done.exit_code == 0, done.output
    assert done.stdout == f"{out}\n" and "file names are relative to" in done.stderr
    samples = read_samples(Path(f"results/{NAME}/samples/samples.json")).split("val")
    opened = COCO(out)
    assert [row["object"] for row in opened.anns.values()] == samples.objects.object.tolist()
    areas = {int(opened.annToMask(row).sum()) for row in opened.anns.values()}
    assert (len(areas) == 1) == (stage == "response")  # here all maps are one
    assert len(opened.imgs) == 4


def test_pseudo_masks_of_several_splits_are_one_data_set_of_refer(
    risflow: Command, tmp_path: Path
) -> None:
    splits = ["--split", "val", "--split", "testA"]
    line = ["masks", NAME, "--format", "refer", "--stage", "ground_truth", *splits]
    done = risflow(*line, "--output", tmp_path / "out")
    assert done.exit_code == 0, done.output
    refs = load_plain((tmp_path / "out/refs(risflow).p").read_bytes())
    assert {ref["split"] for ref in refs} == {"val", "testA"}


def test_pseudo_masks_train_other_code_and_this_one(risflow: Command, tmp_path: Path) -> None:
    out = tmp_path / "out"
    line = ["masks", NAME, "--format", "refer", "--stage", "pseudo_masks", "--output", out]
    done = risflow(*line)
    assert done.exit_code == 0, done.output
    images = done.stderr.rpartition("relative to ")[2].strip()
    config = DatasetConfig(source="refer", annotations=out, images=Path(images), split_by="risflow")
    prepare.run(tmp_path / "again/samples.json", config)
    folder = Path(f"results/{NAME}/pseudo_masks")
    shards = [folder / f"masks-val-{shard}-of-2.parquet" for shard in range(2)]
    masks = read_samples(tmp_path / "again/samples.json").objects["mask"]
    assert masks.tolist() == read_table("masks", shards)["mask"].tolist()


def test_an_archive_has_the_images_too(risflow: Command, tmp_path: Path) -> None:
    out = tmp_path / "out.zip"
    line = ["masks", NAME, "--format", "yolo", "--stage", "labels", "--output", out]
    assert risflow(*line).exit_code == 0
    with zipfile.ZipFile(out) as opened:
        names = opened.namelist()
        assert "data.yaml" in names and len(names) == 1 + 2 * 4
        assert all(opened.getinfo(name).file_size for name in names)
    assert [path.name for path in tmp_path.iterdir()] == ["out.zip"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["refshapes_trs"], "'refshapes_trs' is no experiment; did you mean refshapes_tris?"),
        ([NAME, "--split", "vall"], "--split: 'vall' is not in the data; did you mean val?"),
        (
            [NAME, "--stage", "labels", "--split", "testA"],
            f"{NAME}: no labels of testA yet: snakemake --cores all masks_{NAME} --config"
            " set='masks.formats=[coco] masks.stages=[labels] masks.splits=[testA]'",
        ),
        (
            ["refshapes_cris", "--stage", "pseudo_masks"],
            "refshapes_cris: does not make pseudo masks: no stage of it learns from text; needed"
            " --stage predictions or ground_truth",
        ),
        (
            ["refshapes_cris"],
            "refshapes_cris: not made yet: snakemake --cores all masks_refshapes_cris --config"
            " set='masks.formats=[coco] masks.stages=[predictions] masks.splits=[val]'",
        ),
    ],
)
def test_what_cannot_be_written_is_one_line(
    risflow: Command, arguments: list[str], message: str
) -> None:
    done = risflow("masks", *arguments, "--format", "coco")
    assert done.exit_code == 1
    assert done.stderr == f"error: {message}\n"
    assert not Path("masks").exists()


def test_only_an_earlier_export_is_replaced_and_only_by_force(
    risflow: Command, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    line = ["masks", NAME, "--format", "labelme", "--stage", "labels", "--output", out]
    out.mkdir()
    assert risflow(*line).exit_code == 0  # an empty folder
    (out / "refshapes_000002.json").write_text("changed")
    done = risflow(*line)
    assert (
        done.exit_code == 1 and done.stderr == f"error: {out}: is not empty; --force replaces it\n"
    )
    assert (out / "refshapes_000002.json").read_text() == "changed"
    assert risflow(*line, "--force").exit_code == 0
    assert json.loads((out / "refshapes_000002.json").read_text())["shapes"]
    other = tmp_path / "other"
    other.mkdir()
    (other / "mine.txt").touch()
    done = risflow(*line[:-1], other, "--force")
    assert done.exit_code == 1 and "holds files that are no export" in done.stderr
    assert [path.name for path in other.iterdir()] == ["mine.txt"]
    done = risflow(*line[:-1], tmp_path / "one.json")
    assert done.exit_code == 1 and "labelme is no one file" in done.stderr


def test_a_full_disk_is_told_and_leaves_nothing(project: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    line = f"{Path(sys.executable).parent / 'risflow'} masks {NAME} --format coco"
    line += f" --stage labels --output {out}"
    limited = ["bash", "-c", f"ulimit -f 1; exec {line}"]
    done = subprocess.run(limited, cwd=project, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr == f"error: {out}: File too large\n"
    assert list(tmp_path.iterdir()) == []


SLOW = """
import sys, time
from stages.mask_formats import png
name = png.mask_name
def slow(row):
    print("writing", flush=True)
    time.sleep(0.2)
    return name(row)
png.mask_name = slow
from risflow.cli import app
app(sys.argv[1:])
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_an_interrupted_export_leaves_nothing(
    project: Path, tmp_path: Path, number: signal.Signals
) -> None:
    line = [sys.executable, "-c", SLOW, "masks", NAME, "--format", "png", "--stage", "labels"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        [*line, "--output", str(tmp_path / "out")],
        cwd=project,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "writing\n"
        time.sleep(0.1)
        process.send_signal(number)
        assert process.wait(timeout=60) == 130
    assert list(tmp_path.iterdir()) == []
