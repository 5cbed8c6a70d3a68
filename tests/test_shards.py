"""Passes in several jobs: every step of them gives, put together, the bytes of a single job."""

from pathlib import Path

import pytest

from irnet import make_labels, propagate
from stages import evaluate, predict, score, select_maps
from stages.config.encoders import JudgeSource
from stages.config.sizes import count_shards
from stages.config.steps import Evaluation, Labels, Prms, Propagation
from stages.data.shards import image_batches, take_shard
from stages.storage.tables import read_samples, read_table, write_table
from tests.conftest import ROOT, Toy, file_hash

pytestmark = pytest.mark.workflow

SMALL = JudgeSource(
    model=str(ROOT / "data/small_clip.json"), weights=ROOT / "data/small_clip.safetensors"
)


@pytest.fixture(autouse=True)
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    """The models of the toy name the small CLIP as seen from the project."""
    monkeypatch.chdir(ROOT)


def pass_in_shards(toy: Toy, folder: Path, shards: int) -> dict[str, str]:
    """All passes in so many jobs: a hash of what each wrote."""
    samples = toy.samples
    run = toy.results / "refshapes_tris"
    texts = toy.experiment / "text_features/text.safetensors"
    parts: dict[str, list[Path]] = {"maps": [], "labels": [], "masks": [], "predictions": []}
    for shard in range(shards):
        for kind, files in parts.items():
            files.append(folder / f"{kind}-{shard}-of-{shards}.parquet")
        maps, labels, masks, predictions = (files[-1] for files in parts.values())
        select_maps.run(
            samples,
            texts,
            run / "stage1/model.safetensors",
            maps,
            SMALL,
            Prms(batch_size=16),
            "train",
            shard,
            shards,
        )
        make_labels.run(samples, [maps], labels, Labels(bilateral_sxy=10))
        network = run / "affinity/model.safetensors"
        propagate.run(samples, [maps], network, masks, Propagation(steps=16))
        predict.run(
            samples,
            predictions,
            "val",
            Evaluation(batch_size=16),
            run / "segmentor/model.safetensors",
            shard=shard,
            shards=shards,
        )
    whole = {"rows": evaluated(samples, parts["predictions"], folder)}
    for kind, files in parts.items():
        write_table(folder / f"{kind}.parquet", kind, read_table(kind, files))
        whole[kind] = file_hash(folder / f"{kind}.parquet")
    return whole


def evaluated(samples: Path, predictions: list[Path], folder: Path) -> str:
    """Scores of predictions, evaluated shard by shard: a hash of the rows and of the metrics."""
    rows = [file.with_name(f"rows-{file.name}") for file in predictions]
    for file, result in zip(predictions, rows, strict=True):
        evaluate.run(samples, "val", "segmentor", result, [file])
    metrics, results = folder / "metrics.json", folder / "rows.parquet"
    score.run(samples, "shapes", "val", "segmentor", rows, metrics, results)
    return file_hash(results) + file_hash(metrics)


@pytest.mark.long
def test_one_two_and_seven_jobs_give_the_same_bytes(toy: Toy, tmp_path: Path) -> None:
    alone = pass_in_shards(toy, tmp_path, 1)
    assert pass_in_shards(toy, tmp_path, 2) == alone
    assert pass_in_shards(toy, tmp_path, 7) == alone


def test_shards_are_whole_batches_of_whole_images(toy: Toy) -> None:
    train = read_samples(toy.samples).split("train")
    batches = image_batches(train, 40)
    message = train.expressions.merge(train.objects, on="object").image.value_counts()
    assert [image for batch in batches for image in batch] == sorted(train.images.image)
    assert all(message[batch].sum() <= 40 or len(batch) == 1 for batch in batches)
    parts = [take_shard(train, number, 3, 40) for number in range(3)]
    taken = [image_batches(part, 40) for part in parts]
    assert [batch for part in taken for batch in part] == batches
    assert min(map(len, taken)) >= max(map(len, taken)) - 1


def test_a_shard_without_batches_is_empty(toy: Toy) -> None:
    train = read_samples(toy.samples).split("train")
    assert take_shard(train, 1, 2, 10_000).objects.empty


@pytest.mark.parametrize(("objects", "shards"), [(0, 1), (5_000, 1), (5_001, 2), (42_404, 9)])
def test_jobs_have_thousands_of_objects(objects: int, shards: int) -> None:
    assert count_shards(objects) == shards
