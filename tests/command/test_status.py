"""Where a target stands: what is done, runs, waits or failed, and the time left."""

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from risflow.status.forecast import Estimate, History, forecast, pattern
from risflow.status.job_size import JobSizes
from risflow.status.plan import Job
from risflow.status.progress import (
    State,
    config_of_run,
    find_run,
    find_states,
    last_lines,
    training_progress,
)
from stages.config.catalog import Catalog
from stages.config.contents import Contents
from stages.config.load import load_configs
from stages.config.steps import Stage1
from tests.command.conftest import Command
from tests.conftest import ROOT, Toy, link_workflow, write_steps

RESULTS = Path("results")


def write(path: str, text: str, age: float = 0) -> None:
    """A file that was written some seconds ago."""
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_text(text)
    os.utime(path, (time.time() - age, time.time() - age))


def write_benchmark(path: str, seconds: float, age: float = 0) -> None:
    write(path, f"s\th:m:s\tmax_rss\n{seconds}\t0:00:00\t-\n", age)


class KnownSizes:
    """Sizes and models by the names of benchmark files, without their folders and endings."""

    def __init__(self, models: dict[str, str] | None = None, **sizes: float) -> None:
        self.models, self.sizes = models or {}, sizes

    def size(self, benchmark: Path) -> float | None:
        return self.sizes.get(benchmark.stem)

    def model(self, benchmark: Path) -> str | None:
        return self.models.get(benchmark.stem)


def job(
    name: str, *, needs: tuple[str, ...] = (), rule: str = "train_stage1", **changes: object
) -> Job:
    """A job of which results/<name>.log is the log."""
    path = f"results/{name}"
    made = Job(rule, f"{path}.log", f"{path}.tsv", [f"{path}.out"], {}, [], True, None)
    return made._replace(needs=[f"results/{need}.log" for need in needs], **changes)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_files_of_a_job_tell_its_state() -> None:
    for name in ("ended", "broken", "runs", "again", "queued"):
        write(f"results/{name}.log", "said\n", age=100)
    write_benchmark("results/ended.tsv", 5, age=99)
    write_benchmark("results/broken.tsv", 5, age=200)  # of an earlier run
    jobs = [
        job("done", to_do=False),
        job("ended"),  # and its options changed since
        job("never"),
        job("broken"),
        job("again"),
        job("runs", started=time.time() - 100),
        job("queued", started=time.time() - 50),  # its log is that of an earlier try
        job("new", started=time.time() - 50),
    ]
    ended = ["done", "waiting", "waiting", "failed", "failed"]
    assert find_states(jobs, True) == [*ended, "running", "submitted", "submitted"]
    assert find_states(jobs, False) == [*ended, "failed", "failed", "waiting"]


def test_a_run_is_alive_while_it_has_its_log_open() -> None:
    assert find_run() == "none"
    write(".snakemake/log/a.snakemake.log", "")
    write(".snakemake/locks/0.input.lock", "")
    assert find_run() == "locked"
    with Path(".snakemake/log/a.snakemake.log").open():
        assert find_run() == "here"


def test_the_last_line_of_a_training_says_how_far_it_is() -> None:
    lines = [
        "stage1: step 20 of 400, 90 s left  loss 2",
        "stage1: step 60 of 400, 70 s left  loss 1",
    ]
    write("results/a.log", "\n".join([*lines, "", ""]), age=30)
    training = training_progress("results/a.log")
    assert training is not None and training[:2] == (60, 400)
    assert training.seconds_left == pytest.approx(40, abs=20)
    write("results/a.log", "on GPU 0\n")
    assert training_progress("results/a.log") is None


def test_the_last_lines_of_a_log_are_as_they_were_seen() -> None:
    write("results/a.log", "first\n\n 10%|#\r 20%|##\nerror: no\n")
    assert last_lines("results/a.log", 2) == [" 20%|##", "error: no"]
    assert last_lines("results/none.log", 2) == []


def test_benchmarks_of_a_step_differ_in_their_wildcards() -> None:
    wildcards = {"maps": "mine-0a1b2c3d4e5f", "split": "val", "shard": "0", "shards": "10"}
    benchmark = RESULTS / "work/maps/mine-0a1b2c3d4e5f/select_maps-val-0-of-10.tsv"
    assert pattern(benchmark, wildcards, RESULTS) == "work/maps/*/select_maps-*-*-of-*.tsv"


def test_a_job_takes_what_it_took_else_what_its_step_took_here_else_anywhere() -> None:
    def seconds() -> Estimate | None:
        return History(RESULTS, KnownSizes()).like_earlier(asked)

    asked = job("mine/prms/maps-1")._replace(wildcards={"experiment": "mine", "shard": "1"})
    assert seconds() is None
    write_benchmark("results/other/prms/maps-0.tsv", 100)
    write_benchmark("results/mine/irnet/maps-0.tsv", 1)  # another step's
    assert seconds() == (100, "not scaled")
    write_benchmark("results/mine/prms/maps-0.tsv", 10)
    write_benchmark("results/mine/prms/maps-2.tsv", 20)
    assert seconds() == (15, "not scaled")
    write_benchmark("results/mine/prms/maps-1.tsv", 12)
    assert seconds() == (12, "same size")


def test_a_job_of_another_size_takes_time_in_proportion_to_the_nearest_one() -> None:
    def seconds(size: float, **models: str) -> Estimate | None:
        sizes = KnownSizes(models, a=10, b=10, c=1000, asked=size)
        return History(RESULTS, sizes).like_earlier(asked)

    asked = job("mine/asked")._replace(wildcards={"segmentor": "mine", "split": "asked"})
    write_benchmark("results/first/a.tsv", 20)
    write_benchmark("results/first/b.tsv", 40)
    write_benchmark("results/second/c.tsv", 500)
    write_benchmark("results/second/unsized.tsv", 7)
    assert seconds(10) == (30, "same size")
    assert seconds(5) == (15, "scaled")
    assert seconds(4000) == (2000, "scaled")
    assert seconds(4000, a="cris", asked="cris") == (8000, "scaled")  # of the same model
    assert seconds(0) == (141.75, "not scaled")  # as of a split without objects


def test_the_time_left_is_between_the_longest_chain_and_the_sum() -> None:
    jobs = [job("a"), job("b"), job("c", needs=("a",)), job("d", needs=("b",), rule="predict")]
    same, scaled = Estimate(10, "same size"), Estimate(20, "scaled")
    left = forecast(jobs, [same, scaled, Estimate(5, "not scaled"), None])
    assert left[:2] == (20, 35)  # b and d, and all
    assert left[2:] == (["train_stage1"], ["train_stage1"], ["predict"])
    done = Estimate(0, "own")
    assert forecast(jobs, [done, done, same, done]) == (10, 10, [], [], [])


def test_a_running_job_has_the_rest_of_its_time_left() -> None:
    def seconds(job: Job, state: State) -> float:
        estimate = History(RESULTS, KnownSizes()).left(job, state)
        assert estimate is not None
        return estimate.seconds

    write_benchmark("results/a.tsv", 60)
    running = job("a", started=time.time() - 20)
    assert seconds(running, "running") == pytest.approx(40, abs=10)
    assert seconds(running, "waiting") == 60
    write("results/a.log", "a: step 1 of 9, 500 s left\n")
    assert seconds(running, "running") == pytest.approx(500, abs=30)
    assert seconds(job("a", to_do=False), "done") == 0


def write_samples(dataset: str, **objects: int) -> str:
    place = f"work/samples/{dataset}"
    splits = {split: {"objects": count} for split, count in objects.items()}
    write(f"results/{place}/samples.json", json.dumps({"splits": splits}))
    return place


def test_the_size_of_a_job_is_that_of_its_data_then_or_as_configs_tell() -> None:
    shutil.copytree(ROOT / "configs", "configs")
    now = write_samples("refshapes-0123456789ab", train=800, val=50)
    before = write_samples("refshapes-ba9876543210", train=80, val=5)
    places = {"cris": "work/segmentor/refshapes-000000000001", "tris": "work/stage1/refshapes-2"}
    steps = [
        {"place": places["cris"], "step": "train_segmentor", "sources": [now]}
        | {"options": {"model": "cris", "epochs": 7, "first_epoch": 2}},
        {"place": places["tris"], "step": "train_stage1", "sources": [before], "options": {}},
        {"place": "work/maps/refshapes-3", "step": "select_maps", "sources": [before]}
        | {"options": {}},
    ]
    write_steps(Path.cwd(), "gone", [], steps=steps)  # an experiment that configs/ has no more
    configs = load_configs(Path("configs"))
    catalog = Catalog(configs, RESULTS, Contents(RESULTS / "contents.json"))
    sizes = JobSizes(catalog)

    def size(benchmark: str) -> float | None:
        return sizes.size(RESULTS / benchmark)

    assert size(f"{places['cris']}/train_segmentor.tsv") == 800 * 5
    assert sizes.model(RESULTS / places["cris"] / "train_segmentor.tsv") == "cris"
    assert size(f"{places['tris']}/train_stage1.tsv") == 80 * Stage1().epochs
    assert size("work/maps/refshapes-3/select_maps-val-1-of-2.tsv") == 2.5
    assert size("work/maps/refshapes-3/select_maps-testA-0-of-1.tsv") is None
    assert size(f"{before}/prepare.tsv") is None  # no page was made of it alone
    assert size("work/maps/refshapes-4/select_maps-val-0-of-1.tsv") is None
    planned = catalog.page("cris_r50_refcoco").links["segmentor"]
    objects = configs.datasets["refcoco"].published["train"]
    epochs = configs.experiments["cris_r50_refcoco"].segmentor.epochs
    assert size(f"{planned.folder}/train_segmentor.tsv") == objects * epochs
    assert size("small_clip/pretrain_clip.tsv") is None
    report = catalog.page("cris_r50_refcoco").product
    assert size(f"{report.folder}/make_report.tsv") is None


def test_the_options_of_a_run_that_is_alive_are_followed(risflow: Command) -> None:
    assert config_of_run() == []
    write(".snakemake/log/a.snakemake.log", "")
    code = "import sys, time; file = open(sys.argv[1]); print(); time.sleep(60)"
    command = [sys.executable, "-uc", code, ".snakemake/log/a.snakemake.log", "--cores", "2"]
    command += ["--config", "results=/data/a b", "configs=mine", "--nolock", "demo"]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as run:
        assert run.stdout is not None
        run.stdout.readline()
        assert config_of_run() == ["results=/data/a b", "configs=mine"]
        done = risflow("status")
        note, error = done.stderr.splitlines()
        assert note == "like the run that is alive: --config 'results=/data/a b' configs=mine"
        assert "no folder mine here" in error
        assert "no folder configs here" in risflow("status", "--config", "results=x").stderr
        run.kill()


@pytest.mark.parametrize(
    ("target", "remedy"),
    [("refshapes_triss", "did you mean refshapes_tris?"), ("x", "see configs/")],
)
def test_an_unknown_target_is_one_line(
    risflow: Command, folder: Path, target: str, remedy: str
) -> None:
    link_workflow(folder)
    shutil.copytree(ROOT / "configs", "configs")
    done = risflow("status", target)
    assert done.exit_code == 1
    assert done.stderr == f"error: '{target}' is no target; {remedy}\n"


@pytest.mark.workflow
def test_a_run_is_told_from_its_files(toy: Toy, risflow: Command, folder: Path) -> None:
    link_workflow(folder)
    (folder / "risflow").symlink_to(ROOT / "risflow")
    shutil.copytree(toy.configs, folder / "configs")
    shutil.copytree(toy.results, folder / "results", symlinks=True)
    done = risflow("status")
    assert done.exit_code == 0, done.output
    assert done.stdout.splitlines()[-1] == "demo: done"
    assert [path for path in (folder / ".snakemake").rglob("*") if path.is_file()] == []

    experiment = folder / "results/refshapes_tris"
    segmentor = (experiment / "segmentor").resolve().name
    (experiment / "report.html").resolve().unlink()
    (experiment / "predictions/segmentor/predictions-val-0-of-1.parquet").unlink()
    (experiment / "segmentor/model.safetensors").unlink()
    (experiment / "segmentor/train_segmentor.tsv").unlink()
    (experiment / "segmentor/train_segmentor.log").write_text("step 1\nerror: broken\n")
    done = risflow("status")
    assert done.exit_code == 0, done.output
    rows = {line.split()[0]: line.split()[1:5] for line in done.stdout.splitlines() if line}
    assert rows["train_stage1"] == ["1", "-", "-", "-"]
    assert rows["train_segmentor"] == ["1", "-", "-", "1"]
    assert rows["predict"] == ["3", "-", "1", "-"]
    assert rows["make_report"] == ["-", "-", "1", "-"]
    assert max(map(len, done.stdout.splitlines()[: len(rows)])) <= 80
    log = f"results/work/segmentor/{segmentor}/train_segmentor.log"
    assert f"failed: {log}" in done.stdout
    assert "    error: broken\n" in done.stdout
    assert "demo: 38 of 42 jobs done" in done.stdout

    for name in ("results", "configs"):
        (folder / name).rename(folder / f"other {name}")
    elsewhere = "--config", "configs=other configs", "results=other results"
    longer = risflow("status", "refshapes_tris", *elsewhere, "set=segmentor.epochs=4")
    assert longer.stdout.splitlines()[-2:] == [
        "scaled by the size of the data: train_segmentor",
        "not scaled by the size of the data: make_report",
    ]
    log = f"other {log}"

    message = json.loads(risflow("status", "refshapes_tris", *elsewhere, "--json").stdout)
    states = {row["log"]: row["state"] for row in message["jobs"]}
    assert states[log] == "failed"
    assert (
        message["run"] == "none" and 0 < message["left"]["at_least"] <= message["left"]["at_most"]
    )


@pytest.mark.workflow
def test_a_target_without_its_data_cannot_be_planned(risflow: Command, folder: Path) -> None:
    link_workflow(folder)
    (folder / "risflow").symlink_to(ROOT / "risflow")
    shutil.copytree(ROOT / "configs", folder / "configs")
    done = risflow("status", "cris_r50_refcoco")
    assert done.exit_code == 1
    assert "error: cris_r50_refcoco needs data/refer/refcoco/refs(unc).p, " in done.stderr
    assert "fetch_refcoco" in done.stderr and "Traceback" not in done.stderr
    assert "data/refer/refcoco" in done.stderr and "Traceback" not in done.stderr
