"""REFER has two texts of an expression: ReLA reads `raw`, all other models read `sent`."""

import pickle
from pathlib import Path

import pytest

from stages import predict, prepare, train_segmentor
from stages.config.datasets import DatasetConfig
from stages.config.load import load_configs
from stages.config.steps import Evaluation
from stages.storage.tables import read_samples, read_table
from tests.command.conftest import write_model
from tests.conftest import ROOT, few_shapes, file_hash

EXPERIMENTS = load_configs(ROOT / "configs").experiments
SENT, RAW = "red square", "The blue circle!"


def samples_with(folder: Path, sent: str, raw: str) -> Path:
    """Samples of a refs file in which all expressions have these two texts."""
    few_shapes(folder, train_images=2, val_images=1, test_images=1)
    source = folder / "source"
    refs = pickle.loads((source / "refs(unc).p").read_bytes())
    for ref in refs:
        for sentence in ref["sentences"]:
            sentence.update(sent=sent, raw=raw)
    (source / "refs(unc).p").write_bytes(pickle.dumps(refs))
    config = DatasetConfig(source="refshapes", annotations=source)
    prepare.run(folder / "samples.json", config)
    return folder / "samples.json"


@pytest.fixture(scope="module")
def different(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return samples_with(tmp_path_factory.mktemp("different"), SENT, RAW)


@pytest.mark.parametrize(
    ("name", "text"), [("refshapes_rela", RAW), ("refshapes_cris", SENT), ("refshapes_tris", SENT)]
)
def test_a_model_reads_its_own_text_from_the_refs_file(
    tmp_path: Path, different: Path, name: str, text: str
) -> None:
    table = read_samples(different).expressions
    assert set(table.text) == {SENT} and set(table.raw) == {RAW}
    model = write_model(tmp_path / "model.safetensors", name)

    def predicted(samples: Path) -> list[float]:
        file = tmp_path / "predictions.parquet"
        predict.run(samples, file, "val", Evaluation(), model)
        return list(read_table("predictions", file).score)

    other = {RAW: SENT, SENT: RAW}[text]
    both = [samples_with(tmp_path / one, one, one) for one in (text, other)]
    expected, unlike = map(predicted, both)
    assert predicted(different) == expected != unlike


def test_rela_is_trained_on_the_raw_text(tmp_path: Path, different: Path) -> None:
    config = EXPERIMENTS["refshapes_rela"].segmentor.model_copy(update={"epochs": 1})

    def trained(samples: Path, name: str) -> str:
        model = tmp_path / name / "model.safetensors"
        train_segmentor.run(samples, model, config)
        return file_hash(model)

    same = samples_with(tmp_path / "same", RAW, RAW)
    assert trained(different, "different") == trained(same, "same")
