"""The provenance of a model, in run.json beside it: versions, commit, machine, date.

It is not in the model's own file, so that equal weights give equal bytes.
"""

import logging
import os
import platform
import subprocess
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

from stages.runtime.distributed import is_first_process, process_count
from stages.storage.collapse import few_steps
from stages.storage.files import read_json, write_json
from stages.training.progress import Speed

log = logging.getLogger(__name__)

CODE = Path(__file__).parent


def write_provenance(model: Path, speed: Speed | None = None) -> None:
    """Write the provenance of a model, with the speed of its training; the first process does."""
    if not is_first_process():
        return
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    provenance: dict[str, str | float | None] = {
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        "risflow": _version("risflow"),
        "commit": _commit(),
        "python": platform.python_version(),
        "torch": _version("torch"),
        "processes": process_count(),
        "device": gpu or f"CPU, {torch.get_num_threads()} threads",
        "machine": f"{_processor()}, {os.cpu_count()} cores, {platform.system()}",
    }
    if speed is not None:
        provenance["items_per_second"] = round(speed.items_per_second, 3)
        provenance["waiting_for_data"] = round(speed.waiting, 3)
    losses = model.with_name("losses.json")
    if speed is not None and losses.exists():
        provenance["steps"] = steps = read_json(losses)[-1]["step"]
        if (line := few_steps(steps)) is not None:
            log.warning("warning: %s", line)
    write_json(model.with_name("run.json"), provenance)


def _version(package: str) -> str | None:
    """The version of a package; None if it is not installed."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _commit() -> str | None:
    """The commit of the code, and whether files differ from it; None outside of git."""
    commit = _git("rev-parse", "--short=12", "HEAD")
    if commit is None or _git("ls-files", "--error-unmatch", Path(__file__).name) is None:
        return None
    return f"{commit}, with changes" if _git("status", "--porcelain", "-uno") else commit


def _git(*arguments: str) -> str | None:
    try:
        result = subprocess.run(["git", *arguments], cwd=CODE, capture_output=True, text=True)
    except FileNotFoundError:  # there is no git
        return None
    return result.stdout.strip() if result.returncode == 0 else None


def _processor() -> str:
    """The name of the processor on Linux, else its architecture."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
