"""The whole workflow on a toy: it runs, nothing twice, and reruns what an option changes."""

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from stages.storage.tables import read_table
from tests.conftest import ROOT, Toy, file_hash

pytestmark = pytest.mark.workflow

TRIS = "experiments/refshapes_tris.yaml"
MASKS = "experiments/refshapes_tris_masks.yaml"
DATA = "datasets/refshapes.yaml"

SCORED = {"evaluate", "score", "make_report"}
SEGMENT = {"train_segmentor", "predict"} | SCORED
PSEUDO = {"propagate"} | SEGMENT
AFFINITY = {"train_affinity"} | PSEUDO
LABELS = {"make_labels"} | AFFINITY
PRMS = {"select_maps"} | LABELS
STAGE1 = {"train_stage1"} | PRMS
ALL = {"make_refshapes", "prepare", "encode_text"} | STAGE1

SMALL = {"model": "data/small_clip.json", "weights": "data/small_clip.safetensors"}


def test_the_demo_makes_a_table_and_a_page(toy: Toy) -> None:
    experiment = toy.results / "refshapes_tris"
    table = (experiment / "scores.txt").read_text()
    for row in (
        "whole image",
        "CLIP as it is",
        "TRIS stage 1",
        "PRMS",
        "CRF labels",
        "pseudo masks",
    ):
        assert row in table
    page = (experiment / "report.html").read_text()
    assert page.count("<img src=") >= 8 * 7
    assert "<svg" in page
    assert "Made with" in page and "not run here" not in page  # facts and times were found
    assert not re.search(r"""(src|href)=["']https?:|url\(["']?https?:""", page)


def test_every_stage_has_masks_of_every_object_or_expression(toy: Toy) -> None:
    experiment = toy.results / "refshapes_tris"
    objects = read_table("objects", toy.results / "datasets/refshapes/objects.parquet")
    val = objects[objects.split == "val"]
    pseudo = read_table("masks", experiment / "pseudo/masks-val-0-of-1.parquet")
    assert sorted(pseudo.object) == sorted(val.object)
    metrics = json.loads((experiment / "metrics/segmentor-val.json").read_text())
    predictions = experiment / "predictions/segmentor-val-0-of-1.parquet"
    assert metrics["scores"]["num_samples"] == len(read_table("predictions", predictions))


def test_response_maps_take_less_than_a_kilobyte_each(toy: Toy) -> None:
    maps = toy.results / "refshapes_tris/prms/maps-train-0-of-1.parquet"
    assert maps.stat().st_size / len(read_table("maps", maps)) < 1024


def test_a_finished_demo_plans_nothing(toy: Toy) -> None:
    assert toy.planned() == set()


@pytest.mark.parametrize(
    ("file", "options", "rules"),
    [
        (DATA, {"refshapes": {"seed": 7}}, ALL),
        (TRIS, {"stage1": {"learning_rate": 0.01}}, STAGE1),
        (TRIS, {"clip": {**SMALL, "output_stride": 16}}, STAGE1),
        (TRIS, {"judge": {**SMALL, "output_stride": 16}}, {"encode_text"} | STAGE1),
        (TRIS, {"prms": {"batch_size": 3}}, PRMS),
        (TRIS, {"labels": {"iterations": 3}}, LABELS),
        (TRIS, {"affinity": {"epochs": 4}}, AFFINITY),
        (TRIS, {"propagation": {"steps": 3}}, PSEUDO),
        (TRIS, {"segmentor": {"dice": 0.5}}, SEGMENT),
        (TRIS, {"evaluation": {"batch_size": 3}}, {"predict"} | SCORED),
        (TRIS, {"report": {"examples": 3}}, {"make_report"}),
        (TRIS, {"resources": {"default": {"threads": 2}}}, set()),
        (MASKS, {"segmentor": {"dice": 0.5}}, SEGMENT),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
def test_an_option_reruns_its_step_and_what_follows(
    toy: Toy, file: str, options: dict[str, object], rules: set[str]
) -> None:
    before = (toy.configs / file).read_text()
    toy.edit(file, **options)
    try:
        assert toy.planned() == rules
    finally:
        (toy.configs / file).write_text(before)


def test_an_experiment_on_pseudo_masks_of_another_trains_only_its_segmentor(toy: Toy) -> None:
    other = toy.configs / "experiments/other.yaml"
    other.write_text((toy.configs / TRIS).read_text() + "supervision: pseudo:refshapes_tris\n")
    try:
        assert toy.planned("other") == SEGMENT | {"other"}
    finally:
        other.unlink()


def test_a_comparison_takes_up_what_the_demo_has_made(toy: Toy) -> None:
    training = {"train_segmentor", "predict", "evaluate", "score"}
    data = {"make_refshapes", "prepare"}  # of refshapes_generalized
    assert toy.planned("demo_segmentors") == training | data | {"compare", "demo_segmentors"}


def test_a_mixed_data_set_is_made_of_its_members(toy: Toy) -> None:
    mixed = toy.configs / "datasets/mixed.yaml"
    mixed.write_text("source: mix\nmembers: [refshapes]\n")
    try:
        assert toy.planned("mixed") == {"mix", "mixed"}
        done = toy.snakemake("mixed")
        assert done.returncode == 0, done.stderr[-3000:]
        counts = json.loads((toy.results / "datasets/mixed/samples.json").read_text())["splits"]
        assert set(counts) == {"train", "refshapes_val", "refshapes_testA", "refshapes_testB"}
    finally:
        mixed.unlink()


def test_every_experiment_and_data_set_has_a_target(toy: Toy) -> None:
    rules = toy.snakemake("--list-rules").stdout.split()
    assert {"demo", "refshapes", "refshapes_tris", "refshapes_tris_masks", "small_clip"} <= set(
        rules
    )


def test_the_page_is_part_of_the_report_of_snakemake(toy: Toy, tmp_path: Path) -> None:
    page = tmp_path / "workflow.html"
    done = toy.snakemake(f"--report={page}", "demo")
    assert done.returncode == 0, done.stderr[-2000:]
    assert "report.html" in page.read_text()


@pytest.mark.parametrize(
    ("file", "options", "message"),
    [
        (TRIS, {"stage1": {"epoch": 3}}, "stage1.epoch: no such option; did you mean epochs?"),
        (TRIS, {"segmentor": {"batch_size": -1}}, "segmentor.batch_size: Input should be greater"),
        (
            TRIS,
            {"dataset": "refshape"},
            "dataset: 'refshape' is not known; did you mean refshapes?",
        ),
    ],
)
def test_a_wrong_option_stops_the_workflow_at_once(
    toy: Toy, file: str, options: dict[str, object], message: str
) -> None:
    before = (toy.configs / file).read_text()
    toy.edit(file, **options)
    try:
        done = toy.snakemake("--dry-run", "demo")
    finally:
        (toy.configs / file).write_text(before)
    told = done.stdout + done.stderr
    assert done.returncode != 0
    assert message in told
    assert "Traceback" not in told


@pytest.mark.parametrize(
    "output",
    ["stage1/model.safetensors", "irnet/model.safetensors", "segmentor/model.safetensors"],
)
def test_a_step_that_is_killed_continues_to_the_same_weights(
    toy: Toy, output: str, tmp_path: Path
) -> None:
    finished = toy.results / "refshapes_tris" / output
    command = _command(toy, finished)
    again = tmp_path / "model.safetensors"
    command[command.index("--model") + 1] = str(again)
    _killed_after_its_first_state(command, tmp_path)
    assert not again.exists()
    resumed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert "continues at step" in resumed.stderr
    assert file_hash(again) == file_hash(finished)


def test_a_training_whose_state_does_not_fit_on_the_disk_keeps_the_last_one(
    toy: Toy, tmp_path: Path
) -> None:
    finished = toy.results / "refshapes_tris/stage1/model.safetensors"
    command = _command(toy, finished)
    again = tmp_path / "model.safetensors"
    command[command.index("--model") + 1] = str(again)
    state = _killed_after_its_first_state(command, tmp_path)
    before = file_hash(state)
    limit = state.stat().st_size // 2048  # kilobytes: half of it
    limited = ["bash", "-c", f"ulimit -f {limit}; exec {shlex.join(command)}"]
    full = subprocess.run(limited, cwd=ROOT, capture_output=True, text=True)
    assert full.returncode == 1
    assert full.stderr.splitlines()[-1] == f"error: {state}: File too large"
    assert file_hash(state) == before
    resumed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert "continues at step" in resumed.stderr
    assert file_hash(again) == file_hash(finished)


def _killed_after_its_first_state(command: list[str], folder: Path) -> Path:
    """Start a training, and kill it as soon as it has saved a state in a folder; that state."""
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL) as running:
        deadline = time.monotonic() + 300
        while (
            not list(folder.glob("*.state.pt"))
            and running.poll() is None
            and time.monotonic() < deadline
        ):
            time.sleep(0.005)
        running.send_signal(signal.SIGKILL)
    states = list(folder.glob("*.state.pt"))
    assert states, "killed before the first state or after the end"
    return states[0]


def _command(toy: Toy, output: Path) -> list[str]:
    """The command line by which the workflow makes a file, with this Python."""
    planned = toy.snakemake("--dry-run", "--printshellcmds", "--force", str(output))
    rows = [row.partition("python -m ")[2] for row in planned.stdout.splitlines()]
    rows = [row for row in rows if str(output) in row]
    assert len(rows) == 1, planned.stdout
    return [sys.executable, "-m", *shlex.split(rows[0].partition(" > ")[0])]


def test_a_workflow_that_is_killed_goes_on_by_the_same_command(toy: Toy, tmp_path: Path) -> None:
    page = toy.results / "refshapes_tris/report.html"
    before = file_hash(page)
    log = toy.results / "refshapes_tris/report.log"
    log.unlink()
    command = toy.command("--force", str(page))
    with subprocess.Popen(
        command,
        cwd=ROOT,
        start_new_session=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.STDOUT,
    ) as running:
        deadline = time.monotonic() + 120
        while not log.exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        os.killpg(running.pid, signal.SIGKILL)
    assert log.exists(), "killed before the job began"
    assert toy.planned(str(page)) == {"make_report"}
    done = toy.snakemake(str(page))
    assert done.returncode == 0, done.stderr[-3000:]
    assert file_hash(page) == before
    assert toy.planned() == set()


def test_a_half_written_file_is_never_taken_for_a_whole_one(toy: Toy, tmp_path: Path) -> None:
    broken = tmp_path / "model.safetensors"
    broken.write_bytes((toy.results / "refshapes_tris/stage1/model.safetensors").read_bytes()[:999])
    samples = toy.results / "datasets/refshapes/samples.json"
    command = [
        *(sys.executable, "-m", "stages.predict", "--samples", str(samples), "--split", "val"),
        *("--model", str(broken), "--config", "{}", "--predictions", str(tmp_path / "p.parquet")),
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1
    assert "not a whole safetensors file" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "p.parquet").exists()


def test_images_that_are_resized_once_change_no_weight(toy: Toy, tmp_path: Path) -> None:
    shutil.copytree(toy.folder, tmp_path / "copy", symlinks=True)
    copy = Toy(tmp_path / "copy")
    copy.edit("config.yaml", cache_images="always")
    names = (
        "refshapes_tris/stage1/model.safetensors",
        "refshapes_tris/prms/maps-val-0-of-1.parquet",
        "refshapes_tris_masks/segmentor/model.safetensors",
        "refshapes_tris_masks/predictions/segmentor-val-0-of-1.parquet",
    )
    made = [copy.results / name for name in names]
    for file in made:
        file.unlink()
    done = copy.snakemake(*map(str, made))
    assert done.returncode == 0, done.stderr[-5000:]
    assert done.stderr.count("rule resize_images:") == 1
    for name, file in zip(names, made, strict=True):
        assert file_hash(file) == file_hash(toy.results / name), name


def test_a_stage_1_with_a_checkpoint_is_imported_and_what_follows_is_made(tmp_path: Path) -> None:
    run = Toy(tmp_path)
    shutil.copytree(ROOT / "configs", run.configs)
    checkpoint = tmp_path / "stage1.pth"
    checkpoint.touch()
    run.edit(TRIS, stage1_checkpoint=str(checkpoint))
    planned = run.planned()
    # The segmentors of the experiment and of its upper bound are trained as ever.
    assert planned == (ALL - {"train_stage1"}) | {"import_checkpoint"}
