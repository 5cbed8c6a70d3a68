"""Where a target stands: what is done, runs, waits or failed, and the time left."""

import json
import os
import shutil
import time
from pathlib import Path

import pytest

from risflow.status.forecast import History, forecast, pattern
from risflow.status.plan import Job
from risflow.status.progress import find_run, find_states, last_lines, training_progress
from tests.command.conftest import Command
from tests.conftest import ROOT, Toy, link_workflow

RESULTS = Path("results")


def write(path: str, text: str, age: float = 0) -> None:
    """A file that was written some seconds ago."""
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_text(text)
    os.utime(path, (time.time() - age, time.time() - age))


def write_benchmark(path: str, seconds: float, age: float = 0) -> None:
    write(path, f"s\th:m:s\tmax_rss\n{seconds}\t0:00:00\t-\n", age)


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
    asked = job("mine/prms/maps-1")._replace(wildcards={"experiment": "mine", "shard": "1"})
    assert History(RESULTS).like_earlier(asked) is None
    write_benchmark("results/other/prms/maps-0.tsv", 100)
    write_benchmark("results/mine/irnet/maps-0.tsv", 1)  # another step's
    assert History(RESULTS).like_earlier(asked) == 100
    write_benchmark("results/mine/prms/maps-0.tsv", 10)
    write_benchmark("results/mine/prms/maps-2.tsv", 20)
    assert History(RESULTS).like_earlier(asked) == 15
    write_benchmark("results/mine/prms/maps-1.tsv", 12)
    assert History(RESULTS).like_earlier(asked) == 12


def test_the_time_left_is_between_the_longest_chain_and_the_sum() -> None:
    jobs = [job("a"), job("b"), job("c", needs=("a",)), job("d", needs=("b",), rule="predict")]
    assert forecast(jobs, [10, 20, 5, None]) == (20, 35, ["predict"])  # b and d, and all
    assert forecast(jobs, [0, 0, 5, 0]) == (5, 5, [])


def test_a_running_job_has_the_rest_of_its_time_left() -> None:
    write_benchmark("results/a.tsv", 60)
    running = job("a", started=time.time() - 20)
    assert History(RESULTS).seconds_left(running, "running") == pytest.approx(40, abs=10)
    assert History(RESULTS).seconds_left(running, "waiting") == 60
    write("results/a.log", "a: step 1 of 9, 500 s left\n")
    assert History(RESULTS).seconds_left(running, "running") == pytest.approx(500, abs=30)
    assert History(RESULTS).seconds_left(job("a", to_do=False), "done") == 0


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

    message = json.loads(risflow("status", "refshapes_tris", "--json").stdout)
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
