"""The small demo, killed at random moments and started again: the same results come out.

    python -m benchmarks.interruptions --kills 20 --seed 0 --signal KILL --workers 2

Kills Snakemake and everything that it started, the workers of a training too, without a warning
(KILL) or with one (TERM: trainings save their step), types what docs/workflow.md says, and compares
every file with those of a run that nobody disturbed. A demo that finishes before all kills is
compared, removed and begun again. Works in a folder of its own.
"""

import argparse
import hashlib
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

from tests.conftest import link_workflow, small_demo

SNAKEMAKE = [str(Path(sys.executable).parent / "snakemake")]
ARGUMENTS = ["--cores", "2", "--config", "configs=configs", "results=results", "--", "demo"]
# Not compared, nor what is in tensorboard/: they tell times.
TIMED_ENDINGS, TIMED_NAMES = {".log", ".tsv", ".html"}, {"run.json", "contents.json"}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n\n")[0])
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--signal", choices=["KILL", "TERM"], default="KILL")
    parser.add_argument("--workers", type=int, default=0, help="that read images, a training")
    parser.add_argument("--folder", type=Path, default=Path("results/interruptions"))
    arguments = parser.parse_args()
    folder = arguments.folder.resolve()
    if folder.exists():
        shutil.rmtree(folder)
    folder.mkdir(parents=True)
    link_workflow(folder)
    demo = small_demo(folder)
    execution = {"default": {"save_every": 1000 if arguments.signal == "TERM" else 1}}
    execution["default"]["workers"] = arguments.workers
    for name in ("refshapes_tris", "refshapes_tris_masks"):
        demo.edit(f"experiments/{name}.yaml", execution=execution)
    longest = unbroken(folder) / 4  # enough for any step, at the speed of this machine
    draw = random.Random(arguments.seed)
    moments = [draw.uniform(0, longest) for _ in range(arguments.kills)]
    number = signal.Signals[f"SIG{arguments.signal}"]
    sys.exit(1 if interrupted(folder, moments, number) else 0)


def interrupted(folder: Path, moments: list[float], number: signal.Signals) -> int:
    """Run the demo, killed after these seconds in turn; how many finished ones were different."""
    different = 0
    for seconds in moments:
        while not killed_after(folder, seconds, number):
            different += finished(folder)
            shutil.rmtree(folder / "results")
    if not run_to_the_end(folder):
        sys.exit(f"the last run failed: {folder / 'snakemake.log'}")
    return different + finished(folder)


def unbroken(folder: Path) -> float:
    """Make the results to compare with; the seconds that takes."""
    started = time.monotonic()
    if not run_to_the_end(folder):
        sys.exit(f"the unbroken run failed: {folder / 'snakemake.log'}")
    (folder / "results").rename(folder / "unbroken")
    return time.monotonic() - started


def run_to_the_end(folder: Path) -> bool:
    unlock(folder)
    with start(folder) as process:
        return process.wait() == 0


def killed_after(folder: Path, seconds: float, number: signal.Signals) -> bool:
    """Whether the demo still ran after so many seconds, and was killed; prints its steps."""
    unlock(folder)
    with start(folder) as process:
        try:
            code = process.wait(timeout=seconds)
        except subprocess.TimeoutExpired:
            steps = sorted(running_steps(process.pid))
            os.killpg(process.pid, number)
            process.wait()
            while running_steps(process.pid):  # that save their step
                time.sleep(0.1)
            print(f"killed after {seconds:.1f} s in {', '.join(steps) or 'no step'}", flush=True)
            return True
    if code != 0:
        sys.exit(f"the run after a kill failed: {folder / 'snakemake.log'}")
    return False


def unlock(folder: Path) -> None:
    """What a user types after Snakemake was killed."""
    command = [*SNAKEMAKE, "--unlock", *ARGUMENTS]
    subprocess.run(command, cwd=folder, check=True, capture_output=True)


def start(folder: Path) -> "subprocess.Popen[bytes]":
    with (folder / "snakemake.log").open("ab") as log:
        return subprocess.Popen(
            [*SNAKEMAKE, *ARGUMENTS], cwd=folder, stdout=log, stderr=log, start_new_session=True
        )


def running_steps(session: int) -> set[str]:
    """The modules that the processes of a session run."""
    modules = set()
    for process in Path("/proc").glob("[0-9]*"):
        try:
            after_name = (process / "stat").read_text().rpartition(")")[2].split()
            words = (process / "cmdline").read_text().split("\0")
        except (FileNotFoundError, ProcessLookupError):
            continue
        if int(after_name[3]) == session and words[0].endswith("python") and words[1] == "-m":
            modules.add(words[2])
    return modules - {"snakemake"}


def finished(folder: Path) -> bool:
    """Compare with the unbroken run; whether anything differs."""
    ours, theirs = hashes(folder / "results"), hashes(folder / "unbroken")
    for name in sorted(ours.keys() | theirs.keys()):
        if ours.get(name) != theirs.get(name):
            place = "differs" if name in ours and name in theirs else "is in one only"
            print(f"{name} {place}", flush=True)
    print(f"finished: {len(theirs)} files, {'DIFFERENT' if ours != theirs else 'the same'}")
    return ours != theirs


def hashes(results: Path) -> dict[str, str]:
    return {
        str(path.relative_to(results)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in results.rglob("*")
        if path.is_file()
        and path.suffix not in TIMED_ENDINGS
        and path.name not in TIMED_NAMES
        and "tensorboard" not in path.parts
    }


if __name__ == "__main__":
    main()
