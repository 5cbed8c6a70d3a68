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
import yaml

from stages.storage.tables import read_table
from tests.conftest import ROOT, Toy, file_hash, planned_rules
from tests.test_reruns import ALL

pytestmark = pytest.mark.workflow

TRIS = "experiments/refshapes_tris.yaml"


def test_the_demo_makes_a_table_and_a_page(toy: Toy) -> None:
    experiment = toy.results / "refshapes_tris"
    table = (experiment / "scores.txt").read_text()
    for row in (
        "whole image",
        "zero-shot CLIP",
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
    objects = read_table("objects", toy.samples.with_name("objects.parquet"))
    val = objects[objects.split == "val"]
    pseudo = read_table("masks", experiment / "pseudo_masks/masks-val-0-of-1.parquet")
    assert sorted(pseudo.object) == sorted(val.object)
    metrics = json.loads((experiment / "scores/segmentor/val.json").read_text())
    predictions = experiment / "predictions/segmentor/predictions-val-0-of-1.parquet"
    assert metrics["scores"]["num_samples"] == len(read_table("predictions", predictions))


def test_response_maps_take_less_than_a_kilobyte_each(toy: Toy) -> None:
    maps = toy.experiment / "maps/maps-train-0-of-1.parquet"
    assert maps.stat().st_size / len(read_table("maps", maps)) < 1024


def test_a_finished_demo_plans_nothing(toy: Toy) -> None:
    assert toy.planned() == set()


@pytest.mark.parametrize("profile", [None, "local", "slurm"])
def test_the_plain_command_runs_the_demo_from_a_clean_copy(
    tmp_path: Path, profile: str | None
) -> None:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True)
    for name in filter(None, listed.stdout.decode().split("\0")):
        if (ROOT / name).is_file() and not name.startswith(("tests/", "docs/")):
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).symlink_to(ROOT / name)
    command = [str(Path(sys.executable).parent / "snakemake"), "--dry-run"]
    if profile is None:
        command += ["--cores", "32", "--resources", "gpu=4"]
    else:
        command += ["--workflow-profile", f"workflow/profiles/{profile}"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    text = done.stdout + done.stderr
    assert planned_rules(text) == ALL
    assert re.findall(r"^total +(\d+)$", text, re.M)[0] == "44"


def test_the_target_of_a_data_set_makes_its_rows_and_one_page(toy: Toy) -> None:
    rows = toy.planned("refshapes")
    assert {"train_segmentor", "make_report", "compare"} <= rows
    assert "assign_masks" in rows  # of refshapes_beyond; the others share the masks of the demo


def test_a_comparison_takes_up_what_the_demo_has_made(toy: Toy) -> None:
    training = {"train_segmentor", "predict", "evaluate", "score"}
    data = {"make_refshapes", "prepare"}  # of refshapes_generalized
    pages = {"link_results", "compare", "demo_segmentors"}
    masks = {"encode_text", "train_stage1", "select_maps", "make_labels", "train_affinity"}
    masks |= {"propagate", "assign_masks"}  # of refshapes_beyond, which has another CLIP
    assert toy.planned("demo_segmentors") == training | data | pages | masks


def test_a_table_of_unknown_size_is_split_when_its_samples_are_there(toy: Toy) -> None:
    folder = toy.folder / "large"
    folder.mkdir()
    image = next((toy.results / "work/shapes").glob("refshapes-*/images/*.jpg"))
    shutil.copy(image, folder / "a.jpg")
    splits = ["train"] * 5001 + ["val"]
    rows = "".join(f"a.jpg,shape number {n},{split}\n" for n, split in enumerate(splits))
    (folder / "table.csv").write_text(f"image,expression,split\n{rows}")
    dataset = {"source": "table", "annotations": str(folder / "table.csv"), "images": str(folder)}
    experiment = {"base": "refshapes_tris", "dataset": "large", "upper_bound": None}
    (toy.configs / "datasets/large.yaml").write_text(yaml.safe_dump(dataset))
    (toy.configs / "experiments/large_masks.yaml").write_text(yaml.safe_dump(experiment))
    try:
        assert "count_samples" in toy.planned("large_masks")
        done = toy.snakemake("--until=count_samples", "large_masks")
        assert done.returncode == 0, done.stderr[-3000:]
        planned = toy.snakemake("--dry-run", "large_masks").stdout
        assert re.search(r"^make_labels +3$", planned, re.M)  # two of train, one of val
    finally:
        (toy.configs / "datasets/large.yaml").unlink()
        (toy.configs / "experiments/large_masks.yaml").unlink()


def test_a_mixed_data_set_is_made_of_its_members(toy: Toy) -> None:
    mixed = toy.configs / "datasets/mixed.yaml"
    mixed.write_text("source: mix\nmembers: [refshapes]\n")
    try:
        assert toy.planned("prepare_mixed") == {"mix", "prepare_mixed"}
        done = toy.snakemake("prepare_mixed")
        assert done.returncode == 0, done.stderr[-3000:]
        (samples,) = (toy.results / "work/samples").glob("mixed-*/samples.json")
        counts = json.loads(samples.read_text())["splits"]
        assert set(counts) == {"train", "refshapes_val", "refshapes_testA", "refshapes_testB"}
    finally:
        mixed.unlink()


def test_every_experiment_and_data_set_has_a_target(toy: Toy) -> None:
    rules = toy.snakemake("--list-rules").stdout.split()
    names = {"demo", "refshapes", "prepare_refshapes", "refshapes_tris", "refshapes_tris_masks"}
    assert names | {"demo_segmentors", "fetch_refcoco", "small_clip"} <= set(rules)


def test_a_split_that_the_data_do_not_have_stops_the_workflow_before_its_first_job(
    toy: Toy,
) -> None:
    before = (toy.configs / TRIS).read_text()
    toy.edit(TRIS, evaluation={"splits": ["vall"]})
    try:
        done = toy.snakemake("--dry-run", "refshapes_tris")
    finally:
        (toy.configs / TRIS).write_text(before)
    told = "refshapes_tris: evaluation.splits: 'vall' is not in the data; did you mean val?"
    assert done.returncode != 0 and told in done.stdout + done.stderr


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
    [
        "stage1/model.safetensors",
        pytest.param("affinity/model.safetensors", marks=pytest.mark.long),
        pytest.param("segmentor/model.safetensors", marks=pytest.mark.long),
    ],
)
def test_a_step_that_is_killed_continues_to_the_same_weights(
    toy: Toy, output: str, tmp_path: Path
) -> None:
    finished = (toy.experiment / output).resolve()
    command = _command(toy, finished)
    again = tmp_path / "model.safetensors"
    command[command.index("--model") + 1] = str(again)
    _killed_after_its_first_state(command, tmp_path)
    assert not again.exists()
    resumed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert "continues at step" in resumed.stderr
    assert file_hash(again) == file_hash(finished)


@pytest.mark.long
def test_a_training_whose_state_does_not_fit_on_the_disk_keeps_the_last_one(
    toy: Toy, tmp_path: Path
) -> None:
    finished = (toy.experiment / "stage1/model.safetensors").resolve()
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
        _wait_for_a_state(folder, running)
        running.send_signal(signal.SIGKILL)
    states = list(folder.glob("*.state.pt"))
    assert states, "killed before the first state or after the end"
    return states[0]


def _wait_for_a_state(folder: Path, running: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 300
    while (
        not list(folder.glob("*.state.pt"))
        and running.poll() is None
        and time.monotonic() < deadline
    ):
        time.sleep(0.005)


def _command(toy: Toy, output: Path) -> list[str]:
    """The command line by which the workflow makes a file, with this Python."""
    planned = toy.snakemake("--dry-run", "--printshellcmds", "--force", str(output))
    rows = [row.partition("python -m ")[2] for row in planned.stdout.splitlines()]
    rows = [row for row in rows if str(output) in row]
    assert len(rows) == 1, planned.stdout
    return [sys.executable, "-m", *shlex.split(rows[0].partition(" > ")[0])]


def test_a_workflow_that_is_killed_goes_on_by_the_same_command(toy: Toy, tmp_path: Path) -> None:
    page = (toy.experiment / "report.html").resolve()
    before = file_hash(page)
    log = page.with_name("make_report.log")
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


def test_jobs_of_a_workflow_that_is_terminated_end_first_and_say_how(toy: Toy) -> None:
    """As a service manager ends it: the whole process group gets the signal."""
    model = (toy.experiment / "stage1/model.safetensors").resolve()
    before = file_hash(model)
    with subprocess.Popen(
        toy.command("--force", str(model)),
        cwd=ROOT,
        start_new_session=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as running:
        _wait_for_a_state(model.parent, running)
        os.killpg(running.pid, signal.SIGTERM)
    told = model.with_name("train_stage1.log").read_text()
    assert "ended by SIGTERM; saved at step" in told, told
    done = toy.snakemake(str(model))
    assert done.returncode == 0, done.stderr[-3000:]
    assert file_hash(model) == before
    assert toy.planned() == set()


def test_trainings_do_not_wait_for_passes_over_other_splits(toy: Toy) -> None:
    planned = toy.snakemake("--dry-run", "--forceall", "refshapes_tris").stdout
    jobs = [job for job in planned.split("rule ") if job.startswith("select_maps:")]
    first = {"split=train" in job: "priority: 1" in job for job in jobs}
    assert first == {True: True, False: False}


def test_a_half_written_file_is_never_taken_for_a_whole_one(toy: Toy, tmp_path: Path) -> None:
    broken = tmp_path / "model.safetensors"
    broken.write_bytes((toy.experiment / "stage1/model.safetensors").read_bytes()[:999])
    samples = toy.samples
    command = [
        *(sys.executable, "-m", "stages.predict", "--samples", str(samples), "--split", "val"),
        *("--model", str(broken), "--config", "{}", "--predictions", str(tmp_path / "p.parquet")),
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1
    assert "not a whole safetensors file" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "p.parquet").exists()


@pytest.mark.long
def test_images_that_are_resized_once_change_no_weight(toy: Toy, tmp_path: Path) -> None:
    shutil.copytree(toy.folder, tmp_path / "copy", symlinks=True)
    copy = Toy(tmp_path / "copy")
    copy.edit("config.yaml", cache_images="always")
    names = [
        str((toy.experiment / name).resolve().relative_to(toy.results.resolve()))
        for name in (
            "stage1/model.safetensors",
            "maps/maps-val-0-of-1.parquet",
            "segmentor/model.safetensors",
            "predictions/segmentor/predictions-val-0-of-1.parquet",
        )
    ]
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


def test_a_vote_is_given_the_images_of_the_model_that_votes(tmp_path: Path) -> None:
    """A CRIS of a next round reads images with borders; the TRIS that votes stretches them."""
    run = Toy(tmp_path)
    shutil.copytree(ROOT / "configs", run.configs)
    run.edit("config.yaml", cache_images="always")
    options = yaml.safe_load((run.configs / "experiments/refshapes_cris.yaml").read_text())
    given = {**options, "base": "refshapes_tris", "supervision": "votes:refshapes_tris"}
    del given["expected"]
    given["upper_bound"] = None
    (run.configs / "experiments/second.yaml").write_text(yaml.safe_dump(given))
    done = run.snakemake("--dry-run", "second")
    assert done.returncode == 0, done.stderr[-3000:]
    inputs = re.findall(r"^rule (\w+):\n    input: (.*)$", done.stdout + done.stderr, re.MULTILINE)
    images = {rule: set(re.findall(r"images/[\w-]+/images\.npy", text)) for rule, text in inputs}
    assert len(images["vote"]) == 1
    assert images["vote"] == images["train_stage1"] != images["train_segmentor"]
