"""Models for other programs: ONNX graphs that are PyTorch's, and copies with a card."""

import json
from pathlib import Path

import onnxruntime
import pytest
import torch
from torch import Tensor, nn

from risflow import load
from risflow.export.onnx_graph import Graph, convert, require_same
from stages.models.cris import CrisSegmentor
from stages.runtime.errors import InputError
from stages.storage.files import write_json
from tests.command.conftest import Command
from tests.conftest import file_hash
from tests.small_clip import small_clip, small_tokens
from tests.test_segmentors import CRIS, RELA, ROWS, SIZE, Row, clip_rela

# TRIS is exported below; ETRIS and DETRIS end in the same projector as CRIS. The time grows with
# the layers, so that the small ones have one of each kind.
RELA_OF_ONE_LAYER = RELA.model_copy(update={"layers": 1})
SMALL = [
    Row("cris_small", lambda: CrisSegmentor(CRIS, small_clip(text_layers=1)), CRIS),
    Row(
        "rela_small",
        lambda: clip_rela(RELA_OF_ONE_LAYER, small_clip(text_layers=1)),
        RELA_OF_ONE_LAYER,
        rounding=next(row.rounding for row in ROWS if row.name == "rela"),
    ),
]
SLOW = [
    row
    for row in ROWS
    if row.name in ("tris", "cris", "etris", "etris_transformer", "detris", "rela")
]
EACH = [
    *(pytest.param(row, marks=pytest.mark.long) for row in SMALL),
    *(pytest.param(row, marks=pytest.mark.slow) for row in SLOW),
]


def run(graph: Path, images: Tensor, tokens: Tensor) -> list[Tensor]:
    session = onnxruntime.InferenceSession(str(graph), providers=["CPUExecutionProvider"])
    actual = session.run(None, {"images": images.numpy(), "tokens": tokens.numpy()})
    return [torch.from_numpy(one) for one in actual]


@pytest.mark.parametrize("row", EACH, ids=lambda row: row.name)
def test_a_graph_of_each_system_predicts_what_pytorch_does(row: Row, tmp_path: Path) -> None:
    graph = Graph(row.build().eval().requires_grad_(False))
    torch.manual_seed(2)
    images = torch.randn(1, 3, SIZE, SIZE)
    convert(graph, images, small_tokens(3), Path("model")).save(tmp_path / "a.onnx")
    for count in (1, 5):
        tokens = small_tokens(count)
        with torch.no_grad():
            wanted = graph(images, tokens)
        assert wanted[0].shape == (count, SIZE, SIZE)
        assert len(wanted) == 1 + row.name.startswith("rela")
        actual = run(tmp_path / "a.onnx", images, tokens)
        torch.testing.assert_close(actual, list(wanted), atol=row.rounding, rtol=0)


def test_a_model_file_becomes_a_graph_that_says_how_to_feed_it(
    risflow: Command, model: Path, image_file: Path, tmp_path: Path
) -> None:
    out = tmp_path / "new" / "tris.onnx"
    done = risflow("export", model, "--format", "onnx", "--out", out)
    assert done.exit_code == 0, done.output
    assert "largest difference from PyTorch: " in done.stderr and f"written: {out}" in done.stderr
    assert list(out.parent.iterdir()) == [out]
    about = onnxruntime.InferenceSession(str(out)).get_modelmeta().custom_metadata_map
    assert about["resize_mode"] == "stretch" and about["image_size"] == "96"
    assert json.loads(about["config"])["model"] == "tris"


class Scaled(nn.Module):
    """Maps that are the image's first channel times a weight and the number of tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(()), requires_grad=False)

    def predict(self, batch: dict[str, Tensor]) -> Tensor:
        counts = (batch["tokens"] > 0).sum(dim=1)[:, None, None]
        return batch["images"][:, 0] * self.weight * counts


def test_a_graph_that_differs_is_refused(tmp_path: Path) -> None:
    model, stored, place = Scaled(), tmp_path / "a.onnx", Path("a model")
    graph = Graph(model)
    tokens = small_tokens(3)
    convert(graph, torch.ones(1, 3, SIZE, SIZE), tokens, place).save(stored)
    difference, limit = require_same(graph, stored, SIZE, tokens, place)
    assert difference <= limit
    model.weight.fill_(1 + 1e-2)
    with pytest.raises(InputError, match=r"^a model: the ONNX graph differs from PyTorch by"):
        require_same(graph, stored, SIZE, tokens, place)
    model.weight.zero_()
    with pytest.raises(InputError, match=r"^a model: all maps are 0"):
        require_same(graph, stored, SIZE, tokens, place)


class Unexportable(nn.Module):
    """Asks for numbers of its input, which a graph has not."""

    def predict(self, batch: dict[str, Tensor]) -> Tensor:
        return batch["images"][0] * int(batch["tokens"].sum())


def test_a_model_that_is_no_graph_is_refused_in_one_line(
    capfd: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(ValueError, match=r"^a model: cannot be an ONNX graph: [^\n]+$"):
        convert(Graph(Unexportable()), torch.zeros(1, 3, 8, 8), small_tokens(3), Path("a model"))
    assert capfd.readouterr() == ("", "")


def test_a_copy_has_a_card_and_all_that_it_needs(
    risflow: Command, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage = tmp_path / "results/refshapes_tris/segmentor"
    stage.mkdir(parents=True)
    (stage.parent / "steps.yaml").touch()
    (stage / "model.safetensors").write_bytes(model.read_bytes())
    write_json(stage / "run.json", {"torch": "2.11.0", "commit": None})
    about = {"experiment": "refshapes_tris", "dataset": "refshapes", "scored": "segmentor"}
    scores = {"mean_iou": 0.545, "overall_iou": 0.5}
    write_json(
        stage.parent / "scores/segmentor/val.json", {**about, "split": "val", "scores": scores}
    )
    out = tmp_path / "shared" / "tris.safetensors"
    done = risflow("export", stage / "model.safetensors", "--format", "safetensors", "--out", out)
    assert done.exit_code == 0, done.output
    assert file_hash(out) == file_hash(model)
    card = (out.parent / "MODEL_CARD.md").read_text()
    for text in (
        "the segmentor of TRIS",
        'risflow.load("tris.safetensors")',
        "`refshapes`, learned from images and expressions alone",
        "54.5",
        "- torch: 2.11.0\n",
        "image_size: 96",
        "model: data/small_clip.json",
    ):
        assert text in card
    assert "None" not in card
    monkeypatch.chdir("/")
    assert load(out, "cpu").inference.image_size == 96


def test_a_card_says_what_it_does_not_know(risflow: Command, model: Path, tmp_path: Path) -> None:
    out = tmp_path / "a.safetensors"
    assert risflow("export", model, "--format", "safetensors", "--out", out).exit_code == 0
    card = (tmp_path / "MODEL_CARD.md").read_text()
    assert "Not known: " in card and "None were found" in card and "No `run.json`" in card


def test_what_is_given_wrongly_is_one_line(risflow: Command, model: Path, tmp_path: Path) -> None:
    wrong = risflow("export", model, "--format", "onnx", "--out", tmp_path / "a.pt")
    assert wrong.exit_code == 2 and "ends in .onnx" in wrong.stderr
    absent = risflow("export", "none", "--format", "onnx", "--out", tmp_path / "a.onnx")
    assert absent.exit_code == 1 and "none: no such file" in absent.stderr
    same = risflow("export", model, "--format", "safetensors", "--out", model)
    assert same.exit_code == 1 and "name another" in same.stderr
