"""Official checkpoints become model files, and nothing in them is run."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

import risflow as api
from risflow.project.official import fitting_experiments
from stages.models.saved import STAGE1, build, load_stage1
from stages.storage.weights import load_weights
from tests.command.conftest import EXPERIMENTS, Command, write_model

SYSTEMS = {
    "tris": "refshapes_tris",
    "cris": "refshapes_cris",
    "etris": "refshapes_etris",
    "detris": "refshapes_detris",
    "rela": "refshapes_generalized_rela",
}
# How the official training scripts of each wrap their weights.
WRAPPERS: dict[str, tuple[str, str]] = {
    "tris": ("model", ""),
    "cris": ("state_dict", "module."),
    "etris": ("state_dict", "module."),
    "detris": ("state_dict", "module."),
    "rela": ("model", ""),
}


def official(path: Path, state: dict[str, Tensor], system: str) -> Path:
    wrapper, prefix = WRAPPERS[system]
    weights = {prefix + name: value for name, value in state.items()}
    torch.save({"epoch": 3, wrapper: weights, "optimizer": {"state": {}, "param_groups": []}}, path)
    return path


@pytest.mark.parametrize("system", SYSTEMS)
def test_an_official_checkpoint_finds_its_options_and_predicts_like_its_model(
    risflow: Command, tmp_path: Path, image_file: Path, system: str
) -> None:
    own = write_model(tmp_path / "own.safetensors", SYSTEMS[system])
    state = load_file(own)
    if system == "rela":  # a weight that the official evaluation starts at zero
        state["sem_seg_head.predictor.lang_weight"].zero_()
    file = official(tmp_path / "best.pth", state, system)
    out = tmp_path / "new.safetensors"
    done = risflow("import", file, "--system", system, "--out", out)
    assert done.exit_code == 0, done.output
    assert f"fits the experiment {SYSTEMS[system]}" in done.stderr
    assert load_weights(out)[1]["kind"] == system
    expected = api.load(own).predict(image_file, "the red square").maps
    assert np.array_equal(api.load(out).predict(image_file, "the red square").maps, expected)


@pytest.mark.long
@pytest.mark.parametrize("system", ["tris", "etris"])
def test_predict_takes_an_official_checkpoint_as_it_is(
    risflow: Command, tmp_path: Path, image_file: Path, system: str
) -> None:
    own = write_model(tmp_path / "own.safetensors", SYSTEMS[system])
    file = official(tmp_path / "best.pth", load_file(own), system)
    masks = []
    for model in (own, file):
        output = tmp_path / model.stem
        arguments = (image_file, "the red square", "--model", model, "--output", output)
        done = risflow("predict", *arguments)
        assert done.exit_code == 0, done.output
        masks.append([path.read_bytes() for path in sorted(output.rglob("*.png"))])
    assert f"fits the experiment {SYSTEMS[system]}" in done.stderr
    assert masks[0] == masks[1] and masks[0]
    torch.save({"model": {"other.weight": torch.zeros(1)}}, file)
    done = risflow("predict", image_file, "a cup", "--model", file)
    assert done.exit_code == 1 and "best.pth: fits no experiment" in done.stderr


def test_a_stage_1_checkpoint_is_a_stage_1_model(
    risflow: Command, tmp_path: Path, image_file: Path
) -> None:
    experiment = EXPERIMENTS["refshapes_tris"]
    network = build(STAGE1, experiment.stage1, pretrained=True)
    file = official(tmp_path / "stage1.pth", network.state_dict(), "tris")
    out = tmp_path / "new.safetensors"
    done = risflow("import", file, "--system", "tris_stage1", "--out", out)
    assert done.exit_code == 0, done.output
    assert "fits the experiment refshapes_tris" in done.stderr
    loaded = load_stage1(out).model.state_dict()
    assert all(torch.equal(value, loaded[name]) for name, value in network.state_dict().items())
    assert api.load(out).predict(image_file, "the red square").maps.min() >= 0
    wrong = risflow("import", file, "--system", "tris", "--out", tmp_path / "wrong.safetensors")
    assert wrong.exit_code == 1 and "the closest is refshapes_tris: attention2." in wrong.stderr


OTHERS = ("refcocog_google", "refcocog_umd", "refcocoplus")


@pytest.mark.parametrize(
    ("name", "same"),
    [
        ("cris_r101_refcoco", [f"cris_r101_{data}" for data in OTHERS]),
        ("detris_large_refcoco_mixed", ["detris_large_refcoco_mixed_corrected"]),
        ("rela_swint_grefcoco", []),
        ("tris_r50_refcoco", [f"tris_r50_{data}" for data in (*OTHERS, "referit")]),
    ],
)
def test_a_published_row_is_told_by_shapes_alone(name: str, same: list[str]) -> None:
    experiment = EXPERIMENTS[name]
    system = experiment.segmentor.model
    of_system = {
        n: e for n, e in EXPERIMENTS.items() if e.segmentor.model == system and e.checkpoint is None
    }
    with torch.device("meta"):
        network = build(system, experiment.segmentor, pretrained=False)
    fitting = fitting_experiments(network.state_dict(), system, of_system, Path("best.pth"))
    assert fitting == [name, *same]


def test_what_does_not_fit_is_named(risflow: Command, tmp_path: Path) -> None:
    state = load_file(write_model(tmp_path / "own.safetensors", "refshapes_cris"))
    first = "backbone.positional_embedding"
    assert first in state

    def text(changed: dict[str, Tensor], *options: str) -> str:
        file = official(tmp_path / "best.pth", changed, "cris")
        done = risflow(
            "import", file, "--system", "cris", "--out", tmp_path / "new.safetensors", *options
        )
        assert done.exit_code == 1 and not (tmp_path / "new.safetensors").exists()
        assert done.stderr.count("\n") == 1
        return done.stderr

    without = {name: value for name, value in state.items() if name != first}
    assert f"the closest is refshapes_cris: {first} is missing" in text(without)
    assert "more.weight is not in the model" in text({**state, "more.weight": torch.zeros(1)})
    misshapen = text({**state, first: torch.zeros(3, 4)})
    assert f"{first} is (3, 4) where (" in misshapen and ") is needed" in misshapen
    assert "the closest is cris_r50_refcoco" in text(state, "--experiment", "cris_r50_refcoco")
    assert "'etris' is not of cris" in text(state, "--experiment", "etris")


class Hostile:
    """Runs a command when it is unpickled."""

    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self) -> Any:
        import os

        return os.system, (self.command,)


def test_nothing_in_a_checkpoint_is_run(risflow: Command, tmp_path: Path) -> None:
    proof, file = tmp_path / "proof", tmp_path / "best.pth"
    torch.save({"model": {"a": torch.zeros(1)}, "args": Hostile(f"touch {proof}")}, file)
    for system in ("tris", "tris_stage1", "rela"):
        done = risflow("import", file, "--system", system, "--out", tmp_path / "m.safetensors")
        assert done.exit_code == 1 and "not weights" in done.stderr, done.output
    assert not proof.exists()


def test_files_that_are_none_are_one_line(
    risflow: Command, tmp_path: Path, image_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "m.safetensors"
    for file, message in (
        (tmp_path / "no.pth", "no such file"),
        (image_file, "not weights"),
        (tmp_path, "no such file"),
    ):
        done = risflow("import", file, "--system", "cris", "--out", out)
        assert done.exit_code == 1 and message in done.stderr
        assert done.stderr.count("\n") == 1
    assert risflow("import", image_file, "--system", "lavt", "--out", out).exit_code == 2
    assert risflow("import", image_file, "--system", "cris", "--out", "m.bin").exit_code == 2
    monkeypatch.chdir(tmp_path)
    done = risflow("import", image_file, "--system", "cris", "--out", out)
    assert done.exit_code == 1 and "no folder configs here" in done.stderr
