"""Parameters, FLOPs, latency and memory of models, by the command."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from stages.inference.profile import measure
from tests.command.conftest import Command

QUICK = ("--device", "cpu", "--warm-up", 1, "--repeats", 3)


class Known(nn.Module):
    """A model whose cost can be counted by hand."""

    def __init__(self) -> None:
        super().__init__()
        self.image = nn.Conv2d(3, 4, kernel_size=3, padding=1, bias=False)
        self.text = nn.Linear(5, 4, bias=False)
        self.text.weight.requires_grad = False
        self.attention = nn.MultiheadAttention(4, 2, batch_first=True, bias=False)

    def predict(self, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        cells = self.image(batch["images"]).flatten(2).transpose(1, 2)  # (1, 64, 4)
        words = self.text(batch["tokens"].float())[:, None]  # (1, 1, 4)
        found: torch.Tensor = self.attention(words, cells, cells, need_weights=False)[0]
        return found


class KnownOptions:
    image_size, num_tokens = 8, 5


def test_parameters_and_flops_are_those_that_can_be_counted() -> None:
    measured = measure(Known(), KnownOptions(), torch.device("cpu"), warm_up=1, repeats=5)
    attention = 3 * 4 * 4 + 4 * 4  # of queries, keys, values; and of the output
    assert measured.parameters == 3 * 4 * 9 + 5 * 4 + attention
    assert measured.trainable == measured.parameters - 5 * 4
    products = 64 * 3 * 4 * 9 + 5 * 4  # of the convolution and of the words
    products += (1 + 64 + 64 + 1) * 4 * 4  # of the projections
    products += 2 * 64 * 4  # of queries with keys, and of weights with values
    assert measured.flops == 2 * products
    assert 0 < measured.latency_ms_low <= measured.latency_ms <= measured.latency_ms_high
    assert measured.memory_mib > 50 and measured.activations_mib is None


def test_a_file_and_its_experiment_cost_the_same(risflow: Command, model: Path) -> None:
    found = []
    for name in (model, "refshapes_tris"):
        done = risflow("profile", name, *QUICK, "--json")
        assert done.exit_code == 0, done.output
        found.append(json.loads(done.stdout))
    for key in ("parameters", "trainable", "flops", "image_size", "tokens", "repeats"):
        assert found[0][key] == found[1][key] and found[0][key]
    assert found[0]["model"] == str(model)


def test_an_official_checkpoint_costs_what_its_model_does(
    risflow: Command, model: Path, tmp_path: Path
) -> None:
    torch.save({"model": load_file(model)}, tmp_path / "official.pth")
    done = risflow("profile", tmp_path / "official.pth", *QUICK, "--json")
    assert done.exit_code == 0, done.output
    own = json.loads(risflow("profile", model, *QUICK, "--json").stdout)
    found = json.loads(done.stdout)
    assert found["model"] == str(tmp_path / "official.pth")
    assert [found[key] for key in ("parameters", "flops")] == [own["parameters"], own["flops"]]


@pytest.mark.slow
def test_a_system_is_measured_as_its_published_row(risflow: Command) -> None:
    done = risflow("profile", "etris", *QUICK)
    assert done.exit_code == 0, done.output
    rows = {line.split("  ")[0]: line for line in done.stdout.splitlines()}
    assert {"parameters", "trainable", "FLOPs", "latency, median", "device"} <= rows.keys()
    assert "etris as in etris_" in done.stderr and "416 x 416, batch 1" in done.stderr


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("refshapes_trs", "'refshapes_trs' is no experiment; did you mean refshapes_tris?"),
        ("no.safetensors", "no.safetensors: no such file; needed a model file (.safetensors)"),
    ],
)
def test_what_is_no_model_is_one_line(risflow: Command, name: str, message: str) -> None:
    done = risflow("profile", name)
    assert done.exit_code == 1 and done.stderr == f"error: {message}\n"
