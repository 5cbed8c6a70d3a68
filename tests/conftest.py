"""Fixtures that several tests share: a finished toy run of the whole workflow."""

import fcntl
import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import settings

ROOT = Path(__file__).parent.parent
NEEDS_PYDENSECRF = pytest.mark.skipif(
    importlib.util.find_spec("pydensecrf") is None, reason="not on Python 3.13"
)

# One thread for each test process: the same numbers on every machine, and room for `-n 2`.
os.environ["OMP_NUM_THREADS"] = "1"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--slow", action="store_true", help="run the tests marked slow too")
    parser.addoption("--cluster", action="store_true", help="run the tests that start SLURM, alone")


def pytest_configure(config: pytest.Config) -> None:
    """How many examples tests of drawn inputs see, where they do not say it themselves."""
    settings.register_profile("quick", max_examples=40)
    settings.register_profile("slow", max_examples=300)
    settings.load_profile("slow" if config.getoption("--slow") else "quick")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leaves slow tests out, unless asked for, or unless RISFLOW_PARITY names cases to be run.

    Those that start a cluster are run alone: other runs of the workflow would change their timing.
    """
    wanted = bool(config.getoption("--cluster"))
    others = [item for item in items if bool(item.get_closest_marker("cluster")) != wanted]
    items[:] = [item for item in items if item not in others]
    config.hook.pytest_deselected(items=others)
    _skip_without_gpu(items)
    if config.getoption("--slow") or "RISFLOW_PARITY" in os.environ:
        return
    slow = [item for item in items if item.get_closest_marker("slow")]
    items[:] = [item for item in items if item not in slow]
    config.hook.pytest_deselected(items=slow)


def _skip_without_gpu(items: list[pytest.Item]) -> None:
    of_gpu = [item for item in items if item.get_closest_marker("gpu")]
    if not of_gpu:
        return
    import torch  # after the number of threads is set, above

    if not torch.cuda.is_available():
        for item in of_gpu:
            item.add_marker(pytest.mark.skip(reason="PyTorch sees no GPU; see `make test-gpu`"))


@pytest.fixture(params=["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def device(request: pytest.FixtureRequest) -> Any:
    """A device of the test: the CPU, and a GPU where there is one, whose float32 is not TF32."""
    import torch  # after the number of threads is set, above

    torch.set_float32_matmul_precision("highest")
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cudnn.benchmark = False
    return torch.device(request.param)


@dataclass(frozen=True)
class Toy:
    """A small copy of configs/ and the results of its demo."""

    folder: Path

    @property
    def configs(self) -> Path:
        return self.folder / "configs"

    @property
    def results(self) -> Path:
        return self.folder / "results"

    @property
    def experiment(self) -> Path:
        """The folder of the demo's experiment."""
        return self.results / "refshapes_tris"

    @property
    def samples(self) -> Path:
        return self.experiment / "samples/samples.json"

    def command(self, *arguments: str) -> list[str]:
        """The command that runs the workflow on the toy configuration."""
        command = [
            str(Path(sys.executable).parent / "snakemake"),
            *("--cores", "2", "--directory", str(ROOT), "--nolock"),
            *("--config", f"configs={self.configs}", f"results={self.results}", "--"),
        ]
        options = [a for a in arguments if a.startswith("-")]
        targets = [a for a in arguments if not a.startswith("-")]
        return [command[0], *options, *command[1:], *targets]

    def snakemake(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run the workflow on the toy configuration."""
        return subprocess.run(self.command(*arguments), capture_output=True, text=True, cwd=ROOT)

    def planned(self, target: str = "demo") -> set[str]:
        """The rules that a run of the target would execute now."""
        done = self.snakemake("--dry-run", target)
        assert done.returncode == 0, done.stderr[-3000:]
        return planned_rules(done.stdout + done.stderr)

    def edit(self, file: str, **options: object) -> None:
        """Set options of a YAML file of the configs, sections merged one level deep."""
        path = self.configs / file
        content = yaml.safe_load(path.read_text())
        for key, value in options.items():
            merged = isinstance(value, dict) and isinstance(content.get(key), dict)
            content[key] = {**content[key], **value} if merged else value
        path.write_text(yaml.safe_dump(content))


def planned_rules(text: str) -> set[str]:
    """The rules of Snakemake's table of jobs, without targets."""
    lines = text.splitlines()
    if not any(line.startswith("Job stats:") for line in lines):
        return set()
    start = next(i for i, line in enumerate(lines) if line.startswith("Job stats:")) + 3
    rules = set()
    for line in lines[start:]:
        if not line.strip() or line.startswith("total"):
            break
        rules.add(line.split()[0])
    return rules - {"demo"}


def small_demo(folder: Path) -> Toy:
    """The configs of the whole demo on 24 + 8 pictures, two short epochs for each training."""
    run = Toy(folder)
    shutil.copytree(ROOT / "configs", run.configs)
    run.edit(
        "datasets/refshapes.yaml",
        refshapes={"train_images": 24, "val_images": 8, "test_images": 2},
    )
    brief = {"epochs": 2}
    often = {"execution": {"default": {"save_every": 1}}}
    one = {"train_segmentor": {"threads": 1}}  # as in the tests that run a step again
    run.edit(
        "experiments/refshapes_tris.yaml",
        **{"stage1": brief, "affinity": brief, "segmentor": brief, "resources": one, **often},
    )
    run.edit("experiments/refshapes_tris_masks.yaml", segmentor=brief, **often)
    return run


def link_workflow(folder: Path) -> None:
    """Make a folder from which Snakemake runs the workflow, with a state of its own."""
    for name in ("Snakefile", "workflow", "profiles", "stages", "irnet", "data"):
        (folder / name).symlink_to(ROOT / name)


@pytest.fixture(scope="session")
def finished_demo(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Toy:
    """The small demo, finished: made once for all processes that run tests; not to be changed."""
    shared = tmp_path_factory.getbasetemp()
    if worker_id != "master":
        shared = shared.parent  # of all processes
    with (shared / "toy.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        folder, finished = shared / "toy run", shared / "toy.finished"
        if finished.exists():
            return Toy(folder)
        run = small_demo(folder)
        done = run.snakemake("demo")
        assert done.returncode == 0, done.stderr[-5000:]
        finished.touch()
    return run


@pytest.fixture(scope="session")
def toy(finished_demo: Toy, tmp_path_factory: pytest.TempPathFactory) -> Toy:
    """The small demo, finished: the copy of this process."""
    folder = tmp_path_factory.mktemp("toy") / "run"
    shutil.copytree(finished_demo.folder, folder, symlinks=True)
    return Toy(folder)


def file_hash(path: Path) -> str:
    """The hash of a file's bytes: a difference of two is short to print."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def few_shapes(folder: Path, **options: int) -> Path:
    """RefShapes with these options, drawn and tabulated in `folder`: its samples.json."""
    from stages import make_refshapes, prepare  # after the number of threads is set, above
    from stages.config.datasets import DatasetConfig, RefShapes

    shapes = RefShapes(**options)
    make_refshapes.run(folder / "source", shapes)
    config = DatasetConfig(source="refshapes", annotations=folder / "source", refshapes=shapes)
    prepare.run(folder / "samples.json", config)
    return folder / "samples.json"


def write_steps(folder: Path, name: str, rows: list[list[str]], **content: object) -> Path:
    """The steps.yaml of a page, as link_results writes it, at its place in results/."""
    page: dict[str, object] = {"name": name, "split": "val", "trainings": {}, "links": {}}
    options = {"note": "", "rows": rows, "figures": {}, "values": {}}
    page |= {"options": options, "steps": [], **content}
    steps = folder / "results/work/report" / f"{name}-0123456789ab" / "steps.yaml"
    steps.parent.mkdir(parents=True, exist_ok=True)
    steps.write_text(yaml.safe_dump(page))
    return steps
