"""Results that are all alike: counted by the steps, told, and not learned from."""

import logging
from pathlib import Path

import numpy as np
import pytest

from irnet import make_labels, propagate, train_affinity
from stages import predict, train_segmentor
from stages.config.section import Execution
from stages.config.segmentors import TrisOptions
from stages.config.steps import Affinity, Evaluation, Labels, Propagation
from stages.data.limits import describe_limits, unknown_in
from stages.data.text import BytePairTokenizer, WordTokenizer
from stages.data.wordpiece import SPECIAL, WordPieceTokenizer
from stages.runtime.errors import InputError
from stages.storage.collapse import Tally, collapse_warnings
from stages.storage.files import read_json, write_json
from stages.storage.masks import encode
from stages.storage.tables import ResponseMap, map_row, read_samples, write_table
from tests.command.conftest import EXPERIMENTS, write_model
from tests.conftest import ROOT, few_shapes

NOTHING = np.full((6, 6), -1, np.float32)


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shapes")
    return few_shapes(folder, train_images=2, val_images=1, test_images=1)


def write_maps(samples: Path, path: Path, grid: np.ndarray) -> int:
    """One map for all objects of train; returns how many they are."""
    objects = read_samples(samples).split("train").objects.object
    write_table(path, "maps", [map_row(o, ResponseMap(0, grid, 96), [0.5]) for o in objects])
    return len(objects)


def tally(kind: str, total: int, empty: int = 0, whole: int = 0) -> Tally:
    return Tally(kind, total, {"empty": empty, "whole": whole})  # type: ignore[arg-type]


def test_only_many_collapsed_results_are_told() -> None:
    assert tally("response maps", 100, empty=9).warnings() == []
    (some,) = tally("response maps", 100, empty=10).warnings("val")
    assert some.startswith("10 of 100 response maps of val are empty; usual reasons: too few steps")
    (all_of_them,) = tally("response maps", 12, empty=12).warnings()
    assert all_of_them.startswith(
        "12 of 12 response maps are empty: stage 1 learned nothing; usual reasons: too few steps"
    )
    (whole,) = tally("pseudo masks", 4, whole=4).warnings()
    assert whole.startswith("4 of 4 pseudo masks are whole images: the walk spreads everywhere")
    assert tally("predictions", 0).warnings() == []
    (of_stage1,) = tally("predictions by stage 1", 3, empty=3).warnings("train")
    assert of_stage1.startswith("3 of 3 predictions by stage 1 of train are empty: stage 1 learned")
    assert tally("zero-shot predictions", 3, empty=3).warnings() == []


def test_shards_of_a_split_are_counted_together(tmp_path: Path) -> None:
    folder = tmp_path / "maps/shapes-0"
    for shard, empty in enumerate([5, 0]):
        tally("response maps", 5, empty=empty).conclude(folder / f"maps-val-{shard}-of-2.parquet")
    tally("response maps", 5, empty=5).conclude(folder / "maps-train-0-of-1.parquet")
    (folder / "maps-test-0-of-1.run.json").write_text("damaged")
    first, second = collapse_warnings([folder, tmp_path / "absent"])
    assert first.startswith("5 of 5 response maps of train are empty: stage 1 learned nothing")
    assert second.startswith("5 of 10 response maps of val are empty; usual")


def test_a_training_of_few_steps_is_told(tmp_path: Path) -> None:
    for name, steps in {"stage1": 6, "segmentor": 600}.items():
        write_json(tmp_path / name / "shapes-0/run.json", {"steps": steps})
    write_json(tmp_path / "imported/shapes-0/run.json", {"torch": "2.11"})
    folders = [tmp_path / name / "shapes-0" for name in ("stage1", "segmentor", "imported")]
    assert collapse_warnings(folders) == [
        "stage1: 6 steps of training: hardly more than the initial weights; raise epochs"
    ]


def test_steps_count_what_is_empty_and_do_not_learn_from_it(
    samples: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    count = write_maps(samples, tmp_path / "maps.parquet", NOTHING)
    maps, labels = [tmp_path / "maps.parquet"], tmp_path / "labels-train-0-of-1.parquet"
    affinity = Affinity(
        backbone="small", epochs=1, crop_size=96, radius=5, batch_size=2, precision="float32"
    )
    with caplog.at_level(logging.WARNING):
        make_labels.run(samples, maps, labels, Labels(), crf="torch")
    assert f"{count} of {count} labels are empty: no pixel is surely of an object" in caplog.text
    record = read_json(tmp_path / "labels-train-0-of-1.run.json")
    assert record == {"kind": "labels", "total": count, "empty": count, "whole": 0}

    model = tmp_path / "affinity/model.safetensors"
    message = (
        rf"labels.*: {count} of {count} labels are empty: .*usual reasons: .*on_collapse: warn"
    )
    with pytest.raises(InputError, match=message):
        train_affinity.run(samples, [labels], model, affinity)
    assert not model.exists()
    going_on = Execution(on_collapse="warn", workers=0)
    caplog.clear()
    train_affinity.run(samples, [labels], model, affinity, going_on)
    steps = read_json(model.with_name("run.json"))["steps"]
    assert f"{steps} steps of training: hardly more" in caplog.text

    masks = tmp_path / "masks-train-0-of-1.parquet"
    propagate.run(samples, maps, model, masks, Propagation(steps=4, instances=False))
    assert read_json(tmp_path / "masks-train-0-of-1.run.json")["empty"] == count
    with pytest.raises(InputError, match=rf"{count} of {count} pseudo masks are empty"):
        train_segmentor.run(samples, tmp_path / "model.safetensors", TrisOptions(), [masks])


def test_a_segmentor_is_trained_on_empty_masks_if_that_is_wanted(
    samples: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    objects = read_samples(samples).split("train").objects.object
    nothing = encode(np.zeros((96, 96), bool))
    rows = [
        {"object": o, "height": 96, "width": 96, "mask": nothing, "score": 0.0} for o in objects
    ]
    write_table(tmp_path / "masks.parquet", "masks", rows)
    monkeypatch.chdir(ROOT)
    options = EXPERIMENTS["refshapes_tris"].segmentor.model_copy(update={"epochs": 1})
    going_on = Execution(on_collapse="warn", workers=0)
    model = tmp_path / "model.safetensors"
    train_segmentor.run(samples, model, options, [tmp_path / "masks.parquet"], execution=going_on)
    assert model.exists()


def test_predictions_are_counted(
    samples: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    model = write_model(tmp_path / "model.safetensors", "refshapes_tris")
    predict.run(samples, tmp_path / "p-val-0-of-1.parquet", "val", Evaluation(), model)
    record = read_json(tmp_path / "p-val-0-of-1.run.json")
    assert record["total"] == len(read_samples(samples).split("val").expressions)
    assert record["kind"] == "predictions"
    zero_shot = EXPERIMENTS["refshapes_tris"].stage1
    again = tmp_path / "z-val-0-of-1.parquet"
    predict.run(samples, again, "val", Evaluation(), clip=zero_shot.clip, image_size=96)
    assert read_json(again.with_suffix(".run.json"))["kind"] == "zero-shot predictions"


# ------------------------------------------------------------------- words that nobody has seen


def test_a_model_of_whole_words_says_which_it_does_not_know() -> None:
    tokenizer = WordTokenizer(["red", "square", "the"], 8)
    assert tokenizer.unknown_words("The big RED dog, the big one") == ["big", "dog", "one"]
    limits = describe_limits(tokenizer)
    assert limits is not None and limits.startswith("knows drawn shapes and 3 words only")
    texts = ["the red square", "a b c d e f", "the man"]
    assert unknown_in(texts, tokenizer) == (
        "2 of 3 expressions have words that the model does not know: a, b, c, d, e, ..."
    )
    assert unknown_in(texts[:1], tokenizer) is None


def test_a_model_of_pieces_knows_all_words_that_its_pieces_can_make(tmp_path: Path) -> None:
    pairs = BytePairTokenizer(17)
    assert describe_limits(pairs) is None and pairs.unknown_words("the 人 xyzzy") == []
    vocabulary = tmp_path / "vocab.txt"
    vocabulary.write_text("\n".join([*SPECIAL, "the", "cat", "##s"]))
    pieces = WordPieceTokenizer(vocabulary)
    assert describe_limits(pieces) is None
    assert pieces.unknown_words("The cats, the dog") == [",", "dog"]
