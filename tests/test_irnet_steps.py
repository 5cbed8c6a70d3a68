"""The three steps from response maps to pseudo masks, on a few tiny pictures."""

import logging
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from irnet import find_regions, make_labels, propagate, train_affinity
from irnet.affinity import large_pictures
from irnet.affinity.dataset import Crops, LabeledObjects, finish_crops
from irnet.affinity.images import network_input, read_rgb
from irnet.affinity.network import RelationTraining, load_affinity
from irnet.affinity.pairs import IGNORE
from irnet.affinity.responses import mapped_images
from stages.config.steps import Affinity, Labels, Propagation
from stages.runtime.errors import InputError
from stages.storage.masks import decode, encode
from stages.storage.tables import (
    ResponseMap,
    Samples,
    map_row,
    read_samples,
    read_table,
    write_samples,
    write_table,
)
from tests.conftest import NEEDS_PYDENSECRF, file_hash

SIZE, CELLS = 48, 12
LABELS = Labels(bilateral_sxy=10)
AFFINITY = Affinity(
    backbone="small",
    optimizer="adamw",
    learning_rate=4e-3,
    backbone_learning_rate=4e-3,
    displacement_factor=1,
    epochs=12,
    batch_size=4,
    crop_size=96,
    input_scale=2,
    radius=5,
    precision="float32",
)
PROPAGATION = Propagation(steps=32, background_threshold=0.4)


def scene(number: int) -> tuple[np.ndarray, list[np.ndarray]]:
    """A noisy picture with two discs, and their masks."""
    draw = np.random.default_rng(number)
    rows, columns = np.mgrid[:SIZE, :SIZE]
    centers = [(14 + draw.integers(20), 12), (14 + draw.integers(20), 36)]
    masks = [(rows - y) ** 2 + (columns - x) ** 2 < 8**2 for y, x in centers]
    image = np.full((SIZE, SIZE, 3), 70.0)
    for mask, color in zip(masks, [(220, 60, 50), (60, 90, 230)], strict=True):
        image[mask] = color
    return (image + draw.normal(0, 5, image.shape)).clip(0, 255).astype(np.uint8), masks


def response(mask: np.ndarray, seed: int) -> ResponseMap:
    """A blurred, noisy response to an object, one cell for four pixels."""
    share = torch.from_numpy(mask).float()[None, None]
    blurred = torch.nn.functional.avg_pool2d(share, 12, stride=4, padding=4)[0, 0].numpy()
    noise = np.random.default_rng(seed).normal(0, 0.05, (CELLS, CELLS))
    return ResponseMap(0, (blurred - 0.1 + noise).astype(np.float32), SIZE)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Samples and maps of four pictures with two objects each; the last object has no response."""
    here = tmp_path_factory.mktemp("irnet")
    images, objects, expressions, maps = [], [], [], []
    for number in range(4):
        picture, masks = scene(number)
        file = here / f"{number}.png"
        Image.fromarray(picture).save(file)
        images.append({"image": number, "file": str(file), "width": SIZE, "height": SIZE})
        for mask in masks:
            target = len(objects)
            known = {"object": target, "image": number, "split": "train", "name": str(target)}
            objects.append({**known, "mask": encode(mask), "no_target": False})
            expressions.append({"expression": target, "object": target, "text": "the disc"})
            actual = response(mask, target)
            if target == 7:
                actual = ResponseMap(0, np.full((CELLS, CELLS), -1, np.float32), SIZE)
            maps.append(map_row(target, actual, [0.5]))
    write_table(here / "images.parquet", "images", images)
    write_table(here / "objects.parquet", "objects", objects)
    write_table(here / "expressions.parquet", "expressions", expressions)
    write_table(here / "maps-0.parquet", "maps", maps[:3])
    write_table(here / "maps-1.parquet", "maps", maps[3:])
    shards = [here / "maps-0.parquet", here / "maps-1.parquet"]
    make_labels.run(here, shards, here / "labels.parquet", LABELS)
    train_affinity.run(here, [here / "labels.parquet"], here / "net/model.safetensors", AFFINITY)
    return here


def shards(folder: Path) -> list[Path]:
    return [folder / "maps-0.parquet", folder / "maps-1.parquet"]


def overlaps(folder: Path, actual: pd.DataFrame, column: str) -> dict[int, float]:
    """IoU with the true mask of each object."""
    truth = read_table("objects", folder / "objects.parquet")["mask"]
    scores = {}
    for row in actual.to_dict("records"):
        ours = decode(row[column], SIZE, SIZE)
        theirs = decode(truth[row["object"]], SIZE, SIZE)
        scores[row["object"]] = (ours & theirs).sum() / (ours | theirs).sum()
    return scores


def test_labels_cover_every_object_in_order_and_fit_the_objects(folder):
    labels = read_table("labels", folder / "labels.parquet")
    assert labels.object.tolist() == list(range(8))
    scores = overlaps(folder, labels, "foreground")
    assert scores.pop(7) == 0
    assert min(scores.values()) > 0.8


def test_labels_of_two_processes_equal_those_of_one(folder):
    make_labels.run(folder, shards(folder), folder / "two.parquet", LABELS, workers=2)
    assert file_hash(folder / "two.parquet") == file_hash(folder / "labels.parquet")


def test_labels_of_a_gpu_s_batches_equal_those_of_processes(folder, monkeypatch):
    """Two images a batch, by what a GPU runs."""
    monkeypatch.setattr(make_labels, "PIXELS_AT_ONCE", 2 * SIZE * SIZE)
    images = mapped_images(read_samples(folder), shards(folder))
    rows = make_labels._labeled_on_gpu(images, LABELS, "torch", torch.device("cpu"), workers=2)
    expected = read_table("labels", folder / "labels.parquet")
    pd.testing.assert_frame_equal(
        pd.DataFrame([row for of_image in rows for row in of_image]), expected, check_dtype=False
    )


@pytest.mark.parametrize("crf", ["torch", pytest.param("pydensecrf", marks=NEEDS_PYDENSECRF)])
def test_labels_do_not_depend_on_what_computes_them(folder, crf):
    make_labels.run(folder, shards(folder), folder / f"{crf}.parquet", LABELS, crf=crf)
    assert file_hash(folder / f"{crf}.parquet") == file_hash(folder / "labels.parquet")


def test_a_failure_in_a_worker_names_its_image(folder):
    broken = LABELS.model_copy(update={"bilateral_sxy": "wide"})
    with pytest.raises(RuntimeError, match=r"0\.png"):
        make_labels.run(folder, shards(folder), folder / "no.parquet", broken, workers=2)
    assert not (folder / "no.parquet").exists()


def test_pseudo_masks_fit_the_objects_and_a_dead_response_is_empty_and_counted(folder, caplog):
    masks = folder / "masks.parquet"
    with caplog.at_level(logging.WARNING):
        propagate.run(folder, shards(folder), folder / "net/model.safetensors", masks, PROPAGATION)
    assert "1 of 8 pseudo masks are empty; usual reasons: empty response maps" in caplog.text
    actual = read_table("masks", masks)
    assert actual.object.tolist() == list(range(8))
    scores = overlaps(folder, actual, "mask")
    assert scores.pop(7) == 0
    assert not decode(actual["mask"][7], SIZE, SIZE).any()
    assert np.mean(list(scores.values())) > 0.6
    assert actual.score.tolist() == [1] * 7 + [0]


def test_pseudo_masks_of_images_together_are_those_of_each_alone(folder, monkeypatch):
    """Three and one of four images a batch, with threads, as on a GPU."""
    model, alone, together = folder / "net/model.safetensors", folder / "1.parquet", folder / "3"
    propagate.run(folder, shards(folder), model, alone, PROPAGATION)
    monkeypatch.setitem(propagate.PIXELS_AT_ONCE, "cpu", 3 * SIZE * SIZE)
    monkeypatch.setattr(propagate, "WINDOW", 3)
    propagate.run(folder, shards(folder), model, together, PROPAGATION, workers=2)
    first, second = read_table("masks", alone), read_table("masks", together)
    assert first.object.tolist() == second.object.tolist()
    for ours, theirs in zip(first["mask"], second["mask"], strict=True):
        # The network's last bits may depend on the batch, and move a pixel at the threshold.
        assert (decode(ours, SIZE, SIZE) != decode(theirs, SIZE, SIZE)).mean() <= 0.002


def test_ordinary_pictures_are_computed_at_their_own_size():
    for input_scale in (1, 2, 4):
        assert large_pictures.computed_shape(640, 640, input_scale) == (640, 640)
        assert large_pictures.computed_shape(427, 640, input_scale) == (427, 640)
        height, width = large_pictures.computed_shape(3000, 4000, input_scale)
        assert abs(height / width - 3 / 4) < 0.01
        assert height * width * (input_scale / 4) ** 2 <= 1.01 * large_pictures.MOST_CELLS


def test_a_large_picture_is_propagated_smaller_to_about_the_same_masks(folder, monkeypatch):
    model, whole, small = folder / "net/model.safetensors", folder / "w.parquet", folder / "s"
    propagate.run(folder, shards(folder), model, whole, PROPAGATION)
    monkeypatch.setattr(large_pictures, "MOST_CELLS", 20 * 20)  # of 24 x 24
    propagate.run(folder, shards(folder), model, small, PROPAGATION)
    actual = read_table("masks", small)
    assert set(actual.height) == set(actual.width) == {SIZE}
    scores = overlaps(folder, actual, "mask")
    assert scores.pop(7) == 0
    assert np.mean(list(scores.values())) > 0.5


@pytest.mark.parametrize("most_cells", [24 * 24, 20 * 20])
def test_each_object_has_a_region_among_those_of_its_image(most_cells, folder, monkeypatch):
    """At its own size and reduced; the image of the dead response has the other's region."""
    monkeypatch.setattr(large_pictures, "MOST_CELLS", most_cells)
    found = folder / f"regions-{most_cells}.parquet"
    find_regions.run(folder, shards(folder), folder / "net/model.safetensors", found, PROPAGATION)
    regions, objects = read_table("regions", found), read_samples(folder).objects
    assert set(regions.height) == set(regions.width) == {SIZE}
    assert sorted(set(regions.image)) == sorted(set(objects.image))
    best = []
    for row in objects.itertuples():
        true = decode(row.mask, SIZE, SIZE)
        own = [decode(m, SIZE, SIZE) for m in regions["mask"][regions.image == row.image]]
        best.append(max((true & mask).sum() / (true | mask).sum() for mask in own))
    assert best.pop(7) < 0.5
    assert np.mean(best) > 0.6


def test_shards_together_equal_the_whole(folder):
    model, parts = folder / "net/model.safetensors", []
    for number, shard in enumerate(shards(folder)):
        masks = folder / f"part-{number}.parquet"
        propagate.run(folder, [shard], model, masks, PROPAGATION)
        parts.append(masks)
    propagate.run(folder, shards(folder), model, folder / "whole.parquet", PROPAGATION)
    pd.testing.assert_frame_equal(
        read_table("masks", parts), read_table("masks", folder / "whole.parquet")
    )


def test_the_trained_network_carries_its_options_and_mean_displacement(folder):
    network, config = load_affinity(folder / "net/model.safetensors")
    assert config == AFFINITY
    assert (network.displacement.mean != 0).all()
    assert not list((folder / "net").glob("*.state.pt"))


def test_an_item_is_a_function_of_epoch_and_index(folder):
    rows = train_affinity.labeled_objects(folder, [folder / "labels.parquet"])
    first, second = LabeledObjects(rows, AFFINITY), LabeledObjects(rows, AFFINITY)
    assert second[1, 5].crop.colors.shape == (3, 96, 96)
    np.testing.assert_array_equal(first[0, 2].crop.colors, second[0, 2].crop.colors)
    np.testing.assert_array_equal(first[0, 2].labels, second[0, 2].labels)
    assert (first[0, 2].crop.colors != first[1, 2].crop.colors).any()


@pytest.mark.parametrize("size", [64, 160])  # within a picture, and larger than any
def test_crops_are_sent_as_bytes_and_are_zero_where_no_picture_is(folder, size):
    rows = train_affinity.labeled_objects(folder, [folder / "labels.parquet"])
    data = Crops(rows, AFFINITY.model_copy(update={"crop_size": size}))
    batch = data.collate([data[0], data[1]])
    assert batch["images"].dtype == torch.uint8
    expected = torch.zeros(2, 3, size, size)
    side = min(size, 2 * SIZE)
    for number, row in enumerate(rows.drop_duplicates("image").head(2).itertuples()):
        colors = network_input(read_rgb(row.file, SIZE, SIZE), 2)
        expected[number, :, :side, :side] = colors[:, :side, :side]
    assert torch.equal(finish_crops(batch)["images"], expected)


def test_where_no_picture_is_a_training_ignores_labels_and_sees_zeros(folder):
    rows = train_affinity.labeled_objects(folder, [folder / "labels.parquet"])
    data = LabeledObjects(rows, AFFINITY.model_copy(update={"crop_size": 160}))
    batch = data.collate([data[epoch, 0] for epoch in range(8)])  # shifted, mirrored, scaled
    images = data.prepare(batch)["images"]
    for number, (top, bottom, left, right) in enumerate(batch["covered"].tolist()):
        assert SIZE <= bottom - top == right - left <= 3 * SIZE  # square, 0.5 to 1.5 times 2
        inside = torch.zeros(160, 160, dtype=torch.bool)
        inside[top:bottom, left:right] = True
        assert (images[number][:, ~inside] == 0).all()
        assert (images[number][:, inside] != 0).all()
        assert (batch["labels"][number][~inside[2::4, 2::4]] == IGNORE).all()
        assert (batch["labels"][number][inside[2::4, 2::4]] != IGNORE).any()
    assert len({tuple(rectangle) for rectangle in batch["covered"].tolist()}) == 8


def test_objects_that_share_an_image_train_as_if_each_had_its_own(folder):
    """Same crops: the losses of a batch by images equal those of a batch by objects."""
    rows = train_affinity.labeled_objects(folder, [folder / "labels.parquet"])
    config = AFFINITY.model_copy(update={"group_by_image": True})
    data = LabeledObjects(rows, config)
    items = [data[0, index] for index in (0, 3, 1, 2)]
    shared = data.prepare(data.collate(items))
    assert shared["images"].shape[0] == 2
    assert shared["image_index"].tolist() == [0, 1, 0, 1]
    alone = data.prepare(LabeledObjects(rows, AFFINITY).collate(items))
    assert alone["images"].shape[0] == 4
    training = RelationTraining(config).eval()
    with torch.no_grad():
        together, apart = training(shared), training(alone)
    for name, value in apart.items():
        torch.testing.assert_close(together[name], value, rtol=1e-5, atol=1e-6)


def test_every_weight_that_learns_gets_a_gradient(folder):
    rows = train_affinity.labeled_objects(folder, [folder / "labels.parquet"])
    data = LabeledObjects(rows, AFFINITY)
    training = RelationTraining(AFFINITY).train()
    batch = data.prepare(data.collate([data[0, index] for index in range(4)]))
    training(batch)["loss"].backward()
    learned = [w for group in training.parameter_groups(AFFINITY) for w in group["params"]]
    assert len(learned) == len(list(training.network.parameters()))
    assert all(weight.grad is not None and weight.grad.any() for weight in learned)


def test_maps_of_an_object_that_is_not_in_the_samples_are_refused(folder):
    write_table(folder / "alien.parquet", "maps", [map_row(99, response(scene(0)[1][0], 0), [])])
    for step in (
        lambda: make_labels.run(folder, [folder / "alien.parquet"], folder / "x", LABELS),
        lambda: propagate.run(
            folder,
            [folder / "alien.parquet"],
            folder / "net/model.safetensors",
            folder / "x",
            PROPAGATION,
        ),
    ):
        with pytest.raises(InputError, match=r"alien\.parquet: object 99"):
            step()


def test_labels_of_an_object_that_is_not_in_the_samples_are_refused(folder):
    labels = read_table("labels", folder / "labels.parquet").assign(object=range(8, 16))
    write_table(folder / "alien-labels.parquet", "labels", labels)
    with pytest.raises(InputError, match="object 8 is not in"):
        train_affinity.labeled_objects(folder, [folder / "alien-labels.parquet"])


@pytest.mark.parametrize("workers", [1, 2])
def test_an_image_that_is_missing_is_named(folder, tmp_path, workers):
    images = read_table("images", folder / "images.parquet")
    images.loc[2, "file"] = "gone/2.png"
    objects = read_table("objects", folder / "objects.parquet")
    expressions = read_table("expressions", folder / "expressions.parquet")
    write_samples(tmp_path, Samples(images, objects, expressions))
    with pytest.raises(InputError, match=r"gone/2\.png"):
        make_labels.run(tmp_path, shards(folder), tmp_path / "x", LABELS, workers=workers)


def test_an_image_of_another_size_than_the_samples_say_is_named(folder, tmp_path):
    images = read_table("images", folder / "images.parquet").assign(width=50)
    objects = read_table("objects", folder / "objects.parquet")
    expressions = read_table("expressions", folder / "expressions.parquet")
    write_samples(tmp_path, Samples(images, objects, expressions))
    with pytest.raises(InputError, match="48 x 48 pixels; the samples say 50 x 48"):
        make_labels.run(tmp_path, shards(folder), tmp_path / "x", LABELS)
