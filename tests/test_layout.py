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
ALLOWED = {
    "stages.core": set(),
    "stages.data": {"stages.core"},
    "stages.backbones": {"stages.core"},
    "stages.training": {"stages.core"},
    "stages.reporting": {"stages.core", "stages.data"},
    "stages.models": {"stages.core", "stages.backbones", "stages.training"},
    "stages.inference": {
        "stages.core",
        "stages.data",
        "stages.backbones",
        "stages.models",
        "stages.reporting",
    },
    "stages": {
        "stages.core",
        "stages.data",
        "stages.backbones",
        "stages.inference",
        "stages.models",
        "stages.training",
        "stages.reporting",
    },
    "irnet.affinity": {"stages.core", "stages.data", "stages.training"},
    "irnet": {"irnet.affinity", "stages.core", "stages.data", "stages.training"},
}
# The command calls what the steps are made of; nothing that it calls knows of it.
STAGES = {name for name in ALLOWED if name.startswith("stages")}
ALLOWED["risflow"] = {"risflow.commands", *STAGES}
ALLOWED["risflow.commands"] = {"risflow", *STAGES}


def place(module: str) -> str:
    """The folder that a module belongs to: stages.core, or stages for a step."""
    parts = module.split(".")
    folder = ROOT / parts[0] / parts[1] if len(parts) > 1 else ROOT / parts[0]
    return ".".join(parts[:2]) if folder.is_dir() else parts[0]


def imports(path: Path) -> set[str]:
    """The modules of the project that a file imports."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {name.name for name in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {f"{node.module}.{name.name}" for name in node.names}
    return {name for name in found if name.split(".")[0] in PACKAGES}


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
    command = rf"python -m (stages\.core\.launch \S+ )?{path.parent.name}\.{path.stem} "
    rules = [rule.read_text() for rule in (ROOT / "workflow" / "rules").glob("*.smk")]
    assert sum(len(re.findall(command, rule)) for rule in rules) == 1, f"one rule calls {command}"


def test_the_configuration_does_not_import_torch() -> None:
    check = "import sys, stages.core.experiments; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", check], cwd=ROOT).returncode == 0


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_files_hold_one_idea(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= 400
