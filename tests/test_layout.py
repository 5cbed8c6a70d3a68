"""The four rules of the layout: steps, imports, torch-free configuration, sizes."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
STEPS = sorted(
    path for package in ("stages", "irnet") for path in (ROOT / package).glob("[a-z]*.py")
)
PACKAGES = ("stages", "irnet", "risflow")
MODULES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))

# What the code of a place may import of the project, beside its own place.
CONFIG, RUNTIME = {"stages.config"}, {"stages.runtime"}
BASE = CONFIG | RUNTIME | {"stages.storage", "stages.metrics"}
LEARNING = BASE | {"stages.data", "stages.backbones", "stages.training"}
ALLOWED = {
    "stages.config": RUNTIME,
    "stages.runtime": CONFIG,
    "stages.storage": CONFIG | RUNTIME,
    "stages.metrics": {"stages.storage", *RUNTIME},
    "stages.data": BASE,
    "stages.backbones": BASE,
    "stages.training": BASE,
    "stages.models": LEARNING,
    "stages.reporting": LEARNING,
    "stages.mask_formats": BASE | {"stages.data"},
    "stages.inference": LEARNING | {"stages.models", "stages.reporting"},
    "stages": LEARNING
    | {"stages.models", "stages.reporting", "stages.inference", "stages.mask_formats"},
    "irnet.affinity": BASE | {"stages.data", "stages.training"},
    "irnet": BASE | {"irnet.affinity", "stages.data", "stages.training"},
}
# The command calls what the steps are made of; nothing that it calls knows of it.
STAGES = {name for name in ALLOWED if name.startswith("stages")}
COMMON = {"risflow", "risflow.project", "risflow.predict", "risflow.status", *STAGES}
VERBS = {"predict", "serve", "status", "export", "results", "project"}
ALLOWED |= {f"risflow.{verb}": COMMON for verb in VERBS}
ALLOWED["risflow"] = {f"risflow.{verb}" for verb in VERBS} | STAGES


def place(module: str) -> str:
    """The folder that a module belongs to: stages.config, or stages for a step."""
    parts = module.split(".")
    folder = ROOT / parts[0] / parts[1] if len(parts) > 1 else ROOT / parts[0]
    return ".".join(parts[:2]) if folder.is_dir() else parts[0]


def imports(path: Path) -> set[str]:
    """The modules of the project that a file imports."""
    imported: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            imported |= {name.name for name in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            imported |= {f"{node.module}.{name.name}" for name in node.names}
    return {name for name in imported if name.split(".")[0] in PACKAGES}


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_keep_to_the_table(path: Path) -> None:
    here = place(".".join(path.relative_to(ROOT).with_suffix("").parts))
    if path.name == "__init__.py":
        return
    for name in imports(path):
        there = place(name)
        assert there == here != "stages" or there in ALLOWED[here], f"{path.name} imports {name}"


@pytest.mark.parametrize("path", STEPS, ids=lambda path: f"{path.parent.name}.{path.stem}")
def test_every_module_beside_the_folders_is_one_step_with_one_rule(path: Path) -> None:
    text = path.read_text()
    assert re.search(r"^def run\(", text, re.M), "a step is a function run"
    assert text.rstrip().endswith('if __name__ == "__main__":\n    main(run)')
    command = rf"python -m (stages\.runtime\.launch \S+ )?{path.parent.name}\.{path.stem} "
    # Texts of a shell command follow each other, a line each.
    files = (ROOT / "workflow" / "rules").glob("*.smk")
    rules = [re.sub(r'"\n +"', "", file.read_text()) for file in files]
    assert sum(len(re.findall(command, rule)) for rule in rules) == 1, f"one rule calls {command}"


@pytest.mark.parametrize(
    ("modules", "slow"),
    [
        ("stages.config.load", "torch"),
        ("stages.train_segmentor, stages.predict, irnet.propagate", "open_clip"),
        ("stages.train_segmentor, stages.predict, irnet.propagate", "torchvision"),
        ("stages.train_segmentor, stages.predict, irnet.propagate", "transformers"),
    ],
)
def test_what_takes_seconds_is_imported_by_those_that_need_it(modules: str, slow: str) -> None:
    check = f"import sys, {modules}; sys.exit('{slow}' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", check], cwd=ROOT).returncode == 0


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_files_hold_one_idea(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= 400
