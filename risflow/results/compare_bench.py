"""risflow compare-bench: two measurements of trainings side by side."""

from pathlib import Path
from typing import Annotated, Any

import typer

from risflow.console import fail, out

FIGURES = {  # of a training, and whether more of it is better
    "items_per_second": True,
    "with_loading": True,
    "loading_alone": True,
    "share_of_matmul": True,
    "memory_gib": False,
}


def compare_bench(
    before: Annotated[Path, typer.Argument(help="A file of `make bench`.")],
    after: Annotated[Path, typer.Argument(help="Another one.")],
) -> None:
    """What two runs of `make bench` measured, and the second as a multiple of the first."""
    first, second = _read(before), _read(after)
    for name in ("device", "torch"):
        if first.get(name) != second.get(name):
            out.print(f"{name}: {first.get(name)}, then {second.get(name)}", markup=False)
    rows = {row["training"]: row for row in second["trainings"]}
    lines = [f"{'training':12s}{'figure':20s}{'before':>12s}{'after':>12s}{'ratio':>8s}"]
    for row in first["trainings"]:
        other = rows.get(row["training"], {})
        for figure, is_more_better in FIGURES.items():
            old, new = row.get(figure), other.get(figure)
            if old and new:
                worse = new < 0.95 * old if is_more_better else new > 1.05 * old
                mark = " worse" if worse else ""
                numbers = f"{old:12.3f}{new:12.3f}{new / old:8.2f}"
                lines.append(f"{row['training']:12s}{figure:20s}{numbers}{mark}")
    if len(lines) == 1:
        fail(f"{before}, {after}: no training was measured in both")
    out.print("\n".join(lines), markup=False)


def _read(path: Path) -> dict[str, Any]:
    import json

    try:
        content = json.loads(path.read_text())
        content["trainings"]
    except FileNotFoundError:
        fail(f"{path}: no such file; needed one of `make bench`")
    except (ValueError, KeyError, TypeError):
        fail(f"{path}: not a file of `make bench`")
    result: dict[str, Any] = content
    return result
