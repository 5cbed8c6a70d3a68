"""How fast ours is beside the official code: the same work, weights and batch, in turns.

    python -m benchmarks.peers --official FOLDER [--parts stage1 prms ...] [--output peers.json]

FOLDER holds clones of the official repositories, named TRIS, irn, CRIS.pytorch and ETRIS. Their
code is imported from there and runs unchanged; nothing of it is part of this project. Give only
folders that you trust: their code is run. What is missing, or cannot be imported here, is named as
skipped. `labels` needs pydensecrf, `evaluation` OpenCV (opencv-python-headless).

Both run once for their results, which must be equal up to rounding, then in turns; a ratio is the
official time over ours, of each turn: the median, and the lowest and highest. On a GPU sizes and
batches are the published ones, and each code has the number format that it trains in, so that only
losses are compared, roughly; --exact takes float32 for both. On a CPU, or with --small, sizes are
smaller and all is in float32; on a CPU seconds are of the processor, over all threads.
"""

import argparse
import contextlib
import io
import json
import os
import statistics
import time
import warnings
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from benchmarks.official import evaluation, irnet, queries, tris
from benchmarks.official.clone import Unavailable
from benchmarks.official.comparison import PUBLISHED, SMALL, Comparison, Sizes, differences
from stages.config.experiment import Experiment
from stages.config.load import load_configs
from stages.runtime.device import choose_device, given_threads

Experiments = dict[str, Experiment]
PARTS = ("stage1", "prms", "labels", "walk", "stage2", "cris", "etris", "evaluation")
FIGURES = (("official s", 12), ("ours s", 10), ("ratio", 8), ("lowest", 8), ("highest", 9))
# Differences that are allowed where each code has its own number format; None: any.
FORMATS: dict[str, float | None] = {"loss": 5e-2, "gradients": None, "maps": None}


def comparison(
    part: str, clones: Path, experiments: Experiments, sizes: Sizes, device: torch.device
) -> Comparison:
    """One part, ready to run. Raises Unavailable."""
    published = experiments["tris_r50_refcoco"]
    of_tris: dict[str, Callable[..., Comparison]] = {
        "stage1": tris.stage1_step,
        "prms": tris.prms,
        "stage2": tris.stage2_step,
        "evaluation": evaluation.split,
    }
    if part in of_tris:
        return of_tris[part](clones / "TRIS", published, sizes, device)
    if part == "labels":
        return irnet.labels(clones / "TRIS" / "IRNet", sizes, device)
    if part == "walk":
        return irnet.walk(clones / "irn", sizes, device)
    return _step(part, clones, experiments, sizes, device)


def _step(
    part: str, clones: Path, experiments: Experiments, sizes: Sizes, device: torch.device
) -> Comparison:
    if part == "cris":
        root, clip, settings = clones / "CRIS.pytorch", "r50", "cris_r50.yaml"
    else:
        root, clip, settings = clones / "ETRIS", sizes.etris, f"bridge_{sizes.etris}.yaml"
    batch = sizes.query_batches[part == "etris"]
    experiment = experiments[f"{part}_{clip}_refcoco"]
    return queries.step(root, settings, clip, experiment, batch, sizes, device)


def measure(pair: Comparison, rounds: int, exact: bool, device: torch.device) -> dict[str, Any]:
    """Seconds of both in turns, and how far their first results are apart."""
    quietly(pair.official)
    quietly(pair.ours)
    apart = differences(*quietly(pair.results))
    seconds: dict[str, list[float]] = {"official": [], "ours": []}
    for _ in range(rounds):
        for name, work in (("official", pair.official), ("ours", pair.ours)):
            _wait(device)
            start = _clock(device)
            quietly(work)
            _wait(device)
            seconds[name].append(_clock(device) - start)
    ratios = [a / b for a, b in zip(seconds["official"], seconds["ours"], strict=True)]
    allowed = {
        name: value if exact else FORMATS.get(name, value)
        for name, value in pair.tolerances.items()
    }
    return {
        "work": pair.work,
        "official s": statistics.median(seconds["official"]),
        "ours s": statistics.median(seconds["ours"]),
        "ratio": statistics.median(ratios),
        "lowest": min(ratios),
        "highest": max(ratios),
        "differences": apart,
        "tolerances": allowed,
        "equal": all(_is_within(value, allowed[name]) for name, value in apart.items()),
        "seconds": seconds,
    }


def _is_within(value: float, allowed: float | None) -> bool:
    return allowed is None or value <= allowed


def quietly(work: Callable[[], Any]) -> Any:
    """Without what it prints and warns of: official loops report each step."""
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        return work()


def _clock(device: torch.device) -> float:
    """Seconds; on a CPU those of the processor, of ended processes too: others hardly count."""
    if device.type == "cuda":
        return time.perf_counter()
    ended = os.times()  # in hundredths of a second, too coarse for this process's own
    return time.process_time() + ended.children_user + ended.children_system


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


def row_of(
    part: str, make: Callable[[], Comparison], rounds: int, exact: bool, device: torch.device
) -> dict[str, Any]:
    """The figures of a part, or why it was skipped."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
    begin = time.perf_counter()
    try:
        row = measure(quietly(make), rounds, exact, device)
    except Unavailable as error:
        return {"part": part, "skipped": str(error)}
    except (RuntimeError, ValueError) as error:  # one that fails leaves the others their figures
        return {"part": part, "skipped": f"fails: {str(error).splitlines()[0]}"}
    return {"part": part, **row, "took": round(time.perf_counter() - begin, 1)}


def table(rows: list[dict[str, Any]]) -> str:
    """The rows for people: a ratio above 1 says that ours is faster."""
    heads = "".join(f"{name:>{width}s}" for name, width in FIGURES)
    lines = [f"{'part':>12s}{heads}  differences; work"]
    for row in rows:
        if "skipped" in row:
            lines.append(f"{row['part']:>12s}  skipped: {row['skipped']}")
            continue
        figures = "".join(
            f"{row[name]:{width}{'.3f' if name.endswith(' s') else '.2f'}}"
            for name, width in FIGURES
        )
        apart = ", ".join(f"{name} {value:.0e}" for name, value in row["differences"].items())
        lines.append(f"{row['part']:>12s}{figures}  {apart}; {row['work']}")
        if not row["equal"]:
            lines[-1] += " NOT EQUAL"
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--official", type=Path, required=True, metavar="FOLDER")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--rounds", type=int, help="turns; default 5 on a GPU, 3 on a CPU")
    parser.add_argument("--small", action="store_true", help="small sizes; default on a CPU")
    parser.add_argument("--exact", action="store_true", help="float32; default on a CPU")
    parser.add_argument("--output", type=Path, default=Path("results/peers.json"))
    options = parser.parse_args()
    device = choose_device()
    gpu = device.type == "cuda"
    sizes = PUBLISHED if gpu and not options.small else SMALL
    sizes = replace(sizes, exact=sizes.exact or options.exact)
    rounds = options.rounds or (5 if gpu else 3)
    experiments = dict(load_configs(Path("configs")).experiments)
    about = {
        "device": torch.cuda.get_device_name() if gpu else f"CPU, {given_threads()} threads",
        "torch": torch.__version__,
        "sizes": "small" if options.small or not gpu else "published",
        "exact": sizes.exact,
        "rounds": rounds,
        "load": os.getloadavg()[0],
    }
    print(json.dumps(about), flush=True)
    rows: list[dict[str, Any]] = []
    clones = options.official.expanduser().resolve()
    for part in options.parts:
        make = partial(comparison, part, clones, experiments, sizes, device)
        rows.append(row_of(part, make, rounds, sizes.exact, device))
        print(table(rows[-1:]).splitlines()[-1], flush=True)
        options.output.parent.mkdir(parents=True, exist_ok=True)
        options.output.write_text(json.dumps({**about, "parts": rows}, indent=1) + "\n")
    print(table(rows))
    if any(not row.get("equal", True) for row in rows):
        raise SystemExit("results differ by more than rounding: those ratios are not of equal work")


if __name__ == "__main__":
    main()
