"""Images of every expression of a split: predictions as the step makes them, stable names."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from stages import predict, visualize
from stages.config.steps import Evaluation
from stages.inference.inference import Inference
from stages.storage.masks import decode
from stages.storage.tables import read_samples, read_table
from tests.command.conftest import write_model
from tests.conftest import ROOT, few_shapes


@pytest.mark.parametrize("shards", [1, 2])
def test_every_expression_of_a_split_is_drawn_as_it_is_predicted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shards: int
) -> None:
    samples = few_shapes(tmp_path, train_images=1, val_images=3, test_images=1)
    monkeypatch.chdir(ROOT)
    model = write_model(tmp_path / "model.safetensors", "refshapes_tris")
    config = Evaluation(batch_size=8)
    predict.run(samples, tmp_path / "p.parquet", "val", config, model)
    for shard in range(shards):
        record = tmp_path / f"out/{shard}.json"
        visualize.run(samples, record, "val", config, model, shard, shards, workers=2)
    part = read_samples(samples).split("val")
    counts = [json.loads(path.read_text()) for path in (tmp_path / "out").glob("*.json")]
    assert sum(count["expressions"] for count in counts) == len(part.expressions)
    rows = read_table("predictions", tmp_path / "p.parquet").set_index("expression")
    about = part.expressions.merge(part.objects, on="object").merge(part.images, on="image")
    for row in about.itertuples():
        folder = tmp_path / "out/val" / f"{Path(row.file).stem}-{row.image:06d}"
        words = row.text.replace(" ", "_")
        with Image.open(folder / f"{row.expression:06d}-{words}.mask.png") as opened:
            predicted = decode(rows["mask"][row.expression], row.height, row.width)
            assert np.array_equal(np.asarray(opened) == 255, predicted)
        for kind in ("overlay", "response"):
            with Image.open(folder / f"{row.expression:06d}-{words}.{kind}.png") as opened:
                assert opened.size == (row.width, row.height) and opened.mode == "RGB"
        with Image.open(folder / "image.png") as opened, Image.open(row.file) as original:
            assert np.array_equal(np.asarray(opened), np.asarray(original.convert("RGB")))
    files = [path for path in (tmp_path / "out/val").rglob("*") if path.is_file()]
    assert len(files) == len(part.images) + 3 * len(part.expressions)


def test_few_maps_are_in_memory_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An image of many expressions: the next maps are made when earlier ones are drawn."""
    samples = few_shapes(tmp_path, train_images=1, val_images=1, test_images=1)
    monkeypatch.chdir(ROOT)
    model = write_model(tmp_path / "model.safetensors", "refshapes_tris")
    alive, most = 0, 0
    mask_image, given = visualize.mask_image, Inference.predict

    def counted(*arguments: object) -> object:
        nonlocal alive, most
        for result in given(*arguments):  # type: ignore[arg-type]
            alive += 1
            most = max(most, alive)
            yield result

    def drawn(mask: object) -> Image.Image:
        nonlocal alive
        alive -= 1
        return mask_image(mask)  # type: ignore[arg-type]

    monkeypatch.setattr(Inference, "predict", counted)
    monkeypatch.setattr(visualize, "mask_image", drawn)
    visualize.run(samples, tmp_path / "out/0.json", "val", Evaluation(), model, workers=1)
    assert len(read_samples(samples).split("val").expressions) > 5
    assert most <= 4


def test_names_are_plain_and_never_the_same() -> None:
    assert visualize.image_name("a/b c.jpg", 7) == "b_c-000007"
    assert visualize.image_name("a/ü.jpg", 7) == "000007"
    long = "the man on the left " * 10
    assert visualize.expression_name(long, 12).startswith("000012-the_man_on_the_left")
    assert len(visualize.expression_name(long, 12)) <= 67
    assert visualize.expression_name("人", 3) == "000003"
