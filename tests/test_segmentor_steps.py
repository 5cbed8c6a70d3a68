"""Training, prediction and scores of every segmentor on a few pictures, step by step."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from safetensors.torch import load_file

from stages import evaluate, import_checkpoint, make_report, predict, score, train_segmentor
from stages.config.experiment import Experiment
from stages.config.load import load_configs
from stages.config.steps import Evaluation
from stages.models.saved import load_model
from stages.runtime.errors import InputError
from stages.storage.files import read_json
from stages.storage.masks import decode
from stages.storage.tables import Samples, read_samples, read_table, write_samples, write_table
from stages.train_segmentor import PseudoMasks, _of_objects, _weights
from tests.conftest import ROOT, few_shapes, write_steps

EXPERIMENTS = load_configs(ROOT / "configs").experiments
NAMES = [
    "refshapes_tris_masks",
    "refshapes_cris",
    "refshapes_etris",
    "refshapes_detris",
    "refshapes_rela",
]


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures in gRefCOCO's format: some expressions have no target."""
    return few_shapes(
        tmp_path_factory.mktemp("generalized"),
        generalized=True,
        train_images=6,
        val_images=4,
        test_images=1,
    )


@pytest.fixture(autouse=True)
def at_the_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)  # configs name the small CLIP from here


def trained(samples: Path, model: Path, name: str, masks: list[Path] | None = None) -> Experiment:
    """An experiment's segmentor after one epoch."""
    experiment = EXPERIMENTS[name]
    config = experiment.segmentor.model_copy(update={"epochs": 1})
    train_segmentor.run(samples, model, config, masks or [])
    return experiment


@pytest.mark.parametrize("name", NAMES)
def test_a_segmentor_is_trained_and_scored(samples: Path, tmp_path: Path, name: str) -> None:
    model, predictions = tmp_path / "model.safetensors", tmp_path / "predictions.parquet"
    experiment = trained(samples, model, name)
    assert load_model(model).config.epochs == 1  # type: ignore[attr-defined]
    stretches = experiment.segmentor.resize_mode == "stretch"
    predict.run(samples, predictions, "val", Evaluation(at_input_size=stretches), model)
    side = experiment.segmentor.image_size if stretches else 0
    scores = scored(samples, tmp_path, predictions, side)
    if stretches:
        square = scores.pop("square")
        assert square.pop("side") == side
        assert square.keys() == scores.keys()
        # Two sizes of one mask, of which one is at most twice as large as the other.
        assert square["mean_iou"] == pytest.approx(scores["mean_iou"], abs=0.05)
        assert square["generalized"]["n_acc"] == scores["generalized"]["n_acc"]

    part = read_samples(samples).split("val")
    assert scores["num_samples"] == len(part.expressions)
    assert 0 <= scores["mean_iou"] <= 1
    generalized = scores["generalized"]
    of_nothing = part.expressions.object.isin(part.objects.object[part.objects.no_target])
    assert generalized["num_no_target"] == of_nothing.sum() > 0
    table = read_table("predictions", predictions)
    if experiment.segmentor.model != "rela":  # the others say so by an empty mask
        empty = [not decode(r.mask, r.height, r.width).any() for r in table.itertuples()]
        assert table.no_target.tolist() == empty


@pytest.mark.parametrize("name", ["refshapes_cris", "refshapes_detris"])
def test_an_official_checkpoint_predicts_like_the_model_that_it_holds(
    samples: Path, tmp_path: Path, name: str
) -> None:
    own, official, imported = (
        tmp_path / n for n in ("own.safetensors", "best.pth", "new.safetensors")
    )
    experiment = trained(samples, own, name)
    state = load_file(own)
    wrapped = {"state_dict": {f"module.{key}": value for key, value in state.items()}}
    torch.save({"epoch": 1, **wrapped}, official)
    import_checkpoint.run(official, imported, experiment.segmentor)
    tables = []
    for model in (own, imported):
        predict.run(samples, tmp_path / "p.parquet", "val", Evaluation(), model)
        tables.append(read_table("predictions", tmp_path / "p.parquet"))
    pd.testing.assert_frame_equal(*tables)

    del wrapped["state_dict"][next(iter(wrapped["state_dict"]))]
    torch.save(wrapped, official)
    with pytest.raises(InputError, match=r"best\.pth: .* is missing; needed the weights of this"):
        import_checkpoint.run(official, imported, experiment.segmentor)


def scored(samples: Path, folder: Path, predictions: Path, side: int = 0) -> dict[str, Any]:
    rows, metrics = folder / "rows.parquet", folder / "metrics.json"
    evaluate.run(samples, "val", "segmentor", rows, [predictions], side=side)
    score.run(samples, "shapes", "val", "segmentor", [rows], metrics, folder / "all.parquet")
    scores: dict[str, Any] = read_json(metrics)["scores"]
    return scores


def test_without_masks_nothing_is_scored_and_examples_are_shown(
    samples: Path, tmp_path: Path
) -> None:
    whole = read_samples(samples)
    unmasked = Samples(whole.images, whole.objects.assign(mask=None), whole.expressions)
    write_samples(tmp_path / "unmasked", unmasked)
    rows = whole.split("val").expressions.merge(whole.objects, on="object")
    rows = rows.merge(whole.images, on="image")
    rows = rows.assign(row=0, column=0, score=1.0, input_mask=None)
    write_table(tmp_path / "predictions.parquet", "predictions", rows)
    folder = tmp_path / "unmasked"
    metrics, page, text = (tmp_path / name for name in ("metrics.json", "page.html", "scores.txt"))
    results = tmp_path / "r.parquet"
    predictions = [tmp_path / "predictions.parquet"]
    evaluate.run(folder, "val", "segmentor", tmp_path / "rows.parquet", predictions)
    rows_file = [tmp_path / "rows.parquet"]
    score.run(folder, "shapes", "val", "segmentor", rows_file, metrics, results)
    assert read_json(metrics)["scores"] == {}
    experiment = EXPERIMENTS["refshapes_cris"]
    steps = write_steps(tmp_path, "it", [["it", "segmentor", "val"]])
    make_report.run(steps, experiment, folder, [metrics], [results], [], predictions, page, text)
    assert "nothing is scored" in text.read_text()
    assert "ground truth" not in page.read_text() and "</span>true mask" not in page.read_text()
    assert page.read_text().count("<img src=") == 2 * 4  # image and prediction of each image


def test_objects_that_have_a_mask_are_scored_and_counted(
    samples: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    whole = read_samples(samples)
    some = whole.objects.assign(mask=whole.objects["mask"].where(whole.objects.object > 0))
    write_samples(tmp_path / "some", Samples(whole.images, some, whole.expressions))
    rows, metrics = tmp_path / "r.parquet", tmp_path / "metrics.json"
    evaluate.run(tmp_path / "some", "train", "center_box", rows)
    train = whole.split("train")
    told = f"train: {len(train.objects) - 1} of {len(train.objects)} objects have a mask"
    assert told in caplog.text
    score.run(tmp_path / "some", "it", "train", "center_box", [rows], metrics, tmp_path / "all")
    masked = train.expressions[train.expressions.object > 0]
    assert read_json(metrics)["scores"]["num_samples"] == len(masked)


def test_scores_of_some_shards_only_are_refused(samples: Path, tmp_path: Path) -> None:
    rows, part = tmp_path / "rows.parquet", tmp_path / "part.parquet"
    evaluate.run(samples, "val", "center_box", rows)
    pd.read_parquet(rows)[1:].to_parquet(part)
    out = tmp_path / "metrics.json", tmp_path / "all.parquet"
    for shards in ([part], [rows, part]):
        with pytest.raises(InputError, match=r"and the other shards: .* rows; needed all"):
            score.run(samples, "shapes", "val", "center_box", shards, *out)
    assert not out[0].exists()


def test_a_predicted_no_target_counts_whatever_the_mask(samples: Path, tmp_path: Path) -> None:
    part = read_samples(samples).split("val")
    rows = part.expressions.merge(part.objects, on="object").merge(part.images, on="image")
    perfect = rows.assign(row=0, column=0, score=1.0, input_mask=None)
    write_table(tmp_path / "perfect.parquet", "predictions", perfect)
    scores = scored(samples, tmp_path, tmp_path / "perfect.parquet")
    assert scores["mean_iou"] == scores["generalized"]["g_iou"] == 1
    assert scores["generalized"]["n_acc"] == scores["generalized"]["t_acc"] == 1

    write_table(tmp_path / "denied.parquet", "predictions", perfect.assign(no_target=True))
    scores = scored(samples, tmp_path, tmp_path / "denied.parquet")
    share = rows.no_target.mean()
    assert scores["generalized"]["n_acc"] == 1 and scores["generalized"]["t_acc"] == 0
    assert scores["mean_iou"] == scores["generalized"]["g_iou"] == pytest.approx(share)

    # The masks are empty where there is nothing, but nobody says that there is nothing.
    write_table(tmp_path / "claimed.parquet", "predictions", perfect.assign(no_target=False))
    scores = scored(samples, tmp_path, tmp_path / "claimed.parquet")
    assert scores["generalized"]["n_acc"] == 0 and scores["mean_iou"] == 1
    assert scores["generalized"]["g_iou"] == pytest.approx(1 - share)


def test_with_pseudo_masks_nobody_tells_that_an_object_is_absent(samples: Path) -> None:
    part = read_samples(samples).split("train")
    part = replace(part, objects=part.objects.assign(no_target=True))
    masks = PseudoMasks({}, dict.fromkeys(part.objects.object.tolist(), 0.5))
    assert not _of_objects(part, masks, 0.0).objects.no_target.any()


def test_of_uncertain_pseudo_masks_nothing_is_learned_and_of_others_by_their_scores(
    samples: Path,
) -> None:
    part = read_samples(samples).split("train")
    unsure, sure, *others = part.objects.object.tolist()
    masks = PseudoMasks({}, {unsure: 0.4, sure: 1.0} | dict.fromkeys(others, 0.5))
    left = _of_objects(part, masks, 0.5)
    assert set(left.objects.object) == {sure, *others}
    assert not left.objects.no_target.any()
    weights = _weights(left, masks)
    assert weights.keys() == {sure, *others}
    assert {weights[sure] / weights[key] for key in others} == {2.0}
    assert sum(weights.values()) == pytest.approx(len(weights))
    with pytest.raises(InputError, match="which no pseudo mask reaches"):
        _of_objects(part, PseudoMasks({}, dict.fromkeys(part.objects.object, 0.9)), 1.0)
    with pytest.raises(InputError, match="weight_by_score: the scores of all pseudo masks are 0"):
        _weights(part, PseudoMasks({}, dict.fromkeys(part.objects.object, 0.0)))


def test_a_pseudo_mask_that_does_not_count_changes_no_weight(samples: Path, tmp_path: Path) -> None:
    """Of the objects of one picture, in one step: whatever the mask of the one that scores 0."""
    part = read_samples(samples).split("train")
    objects = part.objects.assign(height=96, width=96, score=1.0, no_target=False)
    objects = objects[objects["mask"].notna()]
    wrong = objects.assign(mask=[objects["mask"].iloc[1], *objects["mask"].iloc[1:]])
    config = EXPERIMENTS["refshapes_cris"].segmentor
    config = config.model_copy(update={"epochs": 1, "batch_size": 32, "weight_by_score": True})

    def learned_from(rows: pd.DataFrame, score: float) -> dict[str, torch.Tensor]:
        rows = rows.assign(score=[score, *rows.score.iloc[1:]])
        masks, model = tmp_path / "masks.parquet", tmp_path / "model.safetensors"
        write_table(masks, "masks", rows)
        train_segmentor.run(samples, model, config, [masks])
        return load_file(model)

    own, other, counting = (
        learned_from(rows, score) for rows, score in ((objects, 0), (wrong, 0), (wrong, 1))
    )
    assert all(torch.equal(own[name], tensor) for name, tensor in other.items())
    assert not all(torch.equal(own[name], tensor) for name, tensor in counting.items())


def test_pseudo_masks_that_are_missing_are_named(samples: Path, tmp_path: Path) -> None:
    objects = read_samples(samples).split("train").objects
    kept = objects.iloc[2:].assign(height=96, width=96, score=1.0)
    write_table(tmp_path / "masks.parquet", "masks", pd.DataFrame(kept))
    first = int(objects.object.iloc[0])
    message = f"2 of {len(objects)} objects have no mask .objects {first}, "
    with pytest.raises(InputError, match=message):
        trained(
            samples,
            tmp_path / "model.safetensors",
            "refshapes_cris",
            [tmp_path / "masks.parquet"],
        )
    assert [path.name for path in tmp_path.iterdir()] == ["masks.parquet"]


def test_a_training_whose_image_is_gone_ends_in_one_line(tmp_path: Path) -> None:
    samples = few_shapes(tmp_path, train_images=2, val_images=1, test_images=1)
    gone = Path(read_samples(samples).split("train").images.file.iloc[0])
    gone.unlink()
    config = EXPERIMENTS["refshapes_cris"].segmentor.model_copy(update={"epochs": 1})
    done = subprocess.run(
        [
            *(sys.executable, "-m", "stages.train_segmentor", "--samples", str(samples)),
            *("--model", str(tmp_path / "model.safetensors"), "--execution", '{"workers": 1}'),
            *("--config", config.model_dump_json()),
        ],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert done.stderr.splitlines() == [f"error: {gone}: no such image"]
