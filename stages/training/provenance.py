"""What a model was made with, beside it as run.json: versions, commit, machine, date.

Not in the model's own file: that has the same bytes wherever the same weights come out.
"""

import os
import platform
import subprocess
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

from stages.runtime.distributed import is_first_process, process_count
from stages.storage.files import write_json

CODE = Path(__file__).parent


def write_facts(model: Path) -> None:
    """Write the facts of the run that made a model, at its end; once, of several processes."""
    if not is_first_process():
        return
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    facts = {
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        "risflow": _version("risflow"),
        "commit": _commit(),
        "python": platform.python_version(),
        "torch": _version("torch"),
        "processes": process_count(),
        "device": gpu or f"CPU, {torch.get_num_threads()} threads",
        "machine": f"{_processor()}, {os.cpu_count()} cores, {platform.system()}",
    }
    write_json(model.with_name("run.json"), facts)


def _version(package: str) -> str | None:
    """The version of a package; None for code that is run where it lies, not installed."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _commit() -> str | None:
    """The commit of the code, and whether files differ from it; None where git has no code."""
    commit = _git("rev-parse", "--short=12", "HEAD")
    if commit is None or _git("ls-files", "--error-unmatch", Path(__file__).name) is None:
        return None
    return f"{commit}, with changes" if _git("status", "--porcelain", "-uno") else commit


def _git(*arguments: str) -> str | None:
    try:
        done = subprocess.run(["git", *arguments], cwd=CODE, capture_output=True, text=True)
    except FileNotFoundError:  # there is no git
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def _processor() -> str:
    """The name of the processor, where Linux tells it, else its architecture."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
