"""Masks of single images: by the Python API, and by the command."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import matplotlib
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

import risflow as api
from stages import predict
from stages.config.steps import Evaluation
from stages.runtime.errors import InputError
from stages.storage.masks import decode
from stages.storage.tables import read_samples, read_table
from stages.storage.weights import load_weights, save_weights
from tests.command.conftest import Command, write_model
from tests.conftest import ROOT, few_shapes

TEXTS = ["the red square", "a blue ring above it"]


def pixels(path: Path | str) -> NDArray[np.uint8]:
    with Image.open(path) as opened:
        return np.array(opened.convert("RGB"))


@pytest.mark.parametrize("name", ["refshapes_tris", "refshapes_rela", "refshapes_cris"])
def test_the_api_says_what_the_step_says(tmp_path: Path, name: str) -> None:
    model = write_model(tmp_path / "model.safetensors", name)
    samples = few_shapes(tmp_path, train_images=1, val_images=2, test_images=1)
    predict.run(samples, tmp_path / "p.parquet", "val", Evaluation(batch_size=1), model)
    part = read_samples(samples).split("val")
    rows = read_table("predictions", tmp_path / "p.parquet").set_index("expression")
    loaded = api.load(model)
    for image in part.images.itertuples():
        objects = part.objects.object[part.objects.image == image.image]
        of_image = part.expressions[part.expressions.object.isin(objects)]
        prediction = loaded.predict(image.file, of_image.text.tolist())
        for number, expression in enumerate(of_image.expression):
            row = rows.loc[expression]
            mask = decode(row["mask"], row.height, row.width) & (not row.no_target)
            assert np.array_equal(prediction.masks[number], mask)
            assert prediction.scores[number] == pytest.approx(row.score, abs=1e-4)
            assert prediction.no_target[number] == row.no_target
            assert prediction.maps[number].max() == prediction.scores[number]


def test_images_come_as_paths_pillow_images_and_values(model: Path, image_file: Path) -> None:
    loaded = api.load(model, device="cpu")
    image = Image.fromarray(pixels(image_file))
    first = loaded.predict(image_file, TEXTS)
    assert first.masks.shape == first.maps.shape == (2, 40, 60)
    assert first.masks.dtype == bool and first.maps.dtype == first.scores.dtype == np.float32
    assert np.array_equal(first.masks, (first.maps > 0) & ~first.no_target[:, None, None])
    for form in (str(image_file), image, np.asarray(image)):
        assert np.array_equal(loaded.predict(form, TEXTS).maps, first.maps)
    alone = loaded.predict(image_file, TEXTS[1])
    np.testing.assert_allclose(alone.maps, first.maps[1:], atol=1e-5)
    with pytest.raises(InputError, match=r"float64 \(4, 4\); needed RGB values"):
        loaded.predict(np.zeros((4, 4)), TEXTS)  # type: ignore[arg-type]


def test_where_no_target_is_predicted_the_mask_is_empty(tmp_path: Path, image_file: Path) -> None:
    loaded = api.load(write_model(tmp_path / "m.safetensors", "refshapes_generalized_rela"))
    nothing = loaded.inference.model.sem_seg_head.predictor.nt_embed
    for sign in (-1.0, 1.0):
        torch.nn.init.zeros_(nothing.layers[-1].weight)
        with torch.no_grad():
            nothing.layers[-1].bias.copy_(torch.tensor([-50.0, 50.0]) * sign)
        prediction = loaded.predict(image_file, TEXTS)
        assert prediction.maps.max() > 0
        assert prediction.no_target.tolist() == 2 * [sign > 0]
        assert prediction.masks.any() == (sign < 0)


def test_a_model_finds_what_it_names_from_any_folder(
    tmp_path: Path, model: Path, image_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state, about = load_weights(model)
    config = json.loads(about["config"])
    config["clip"]["model"] = "data/clip_of_this_project.json"
    away = tmp_path / "away.safetensors"
    save_weights(away, state, about | {"config": json.dumps(config)})
    project = tmp_path / "project"
    within = project / "results/it/segmentor/model.safetensors"
    within.parent.mkdir(parents=True)
    shutil.copy(away, within)
    (project / "data").mkdir()
    shutil.copy(ROOT / "data/small_clip.json", project / "data/clip_of_this_project.json")
    expected = api.load(model).predict(image_file, TEXTS)
    monkeypatch.chdir(tmp_path)
    assert np.array_equal(api.load(within).predict(image_file, TEXTS).maps, expected.maps)
    with pytest.raises(InputError, match=r"no file data/clip_of_this_project\.json"):
        api.load(away)


def test_words_that_the_model_has_never_seen_are_told(
    risflow: Command, tmp_path: Path, model: Path, image_file: Path
) -> None:
    texts = ["the red square", "the man on a horse"]
    done = risflow("predict", image_file, *texts, "--model", model, "--output", tmp_path, "--json")
    limits, unknown = done.stderr.splitlines()[:2]
    assert (
        limits == f"{model}: knows drawn shapes and 56 words only: no photographs, no other words"
    )
    assert unknown == (
        f"{model}: 1 of 2 expressions have words that the model does not know: man, horse"
    )
    records = json.loads(done.stdout)
    assert [record["unknown_words"] for record in records] == [[], ["man", "horse"]]


def test_a_heat_map_is_drawn_as_in_the_demo_of_tris(
    risflow: Command, tmp_path: Path, model: Path, image_file: Path
) -> None:
    line = ["predict", image_file, TEXTS[0], "--model", model, "--output", tmp_path, "--json"]
    (plain,) = json.loads(risflow(*line).stdout)
    (record,) = json.loads(risflow(*line, "--heatmap").stdout)
    assert record["files"] == {**plain["files"], "heatmap": record["files"]["heatmap"]}
    (response,) = api.load(model).predict(image_file, TEXTS[0]).maps
    positive = response.clip(min=0)
    strength = (positive - positive.min()) / (positive.max() - positive.min() + 1e-5)
    colors = matplotlib.colormaps["jet"](strength)[..., :3] * 255
    expected = 0.6 * colors + 0.4 * pixels(image_file)
    drawn = pixels(record["files"]["heatmap"])
    assert np.abs(drawn - expected).max() <= 1.5  # of 255: rounded twice
    assert drawn.std() > 20


def test_the_command_writes_what_the_api_gives(
    risflow: Command, tmp_path: Path, model: Path, image_file: Path
) -> None:
    done = risflow("predict", image_file, *TEXTS, "--model", model, "--output", tmp_path / "o")
    assert done.exit_code == 0, done.output
    assert "the red square" in done.stdout and "masks by" in done.stderr
    prediction = api.load(model).predict(image_file, TEXTS)
    result = risflow(
        "predict", image_file, *TEXTS, "--model", model, "--output", tmp_path / "o", "--json"
    )
    for number, record in enumerate(json.loads(result.stdout)):
        size = record["segmentation"]["size"]
        assert record == json.loads(Path(record["files"]["json"]).read_text())
        assert np.array_equal(
            decode(record["segmentation"]["counts"], *size), prediction.masks[number]
        )
        mask = pixels(record["files"]["mask"])[:, :, 0]
        assert np.array_equal(mask, prediction.masks[number] * np.uint8(255))
        assert pixels(record["files"]["overlay"]).shape == (40, 60, 3)
        assert record["area"] == pytest.approx(prediction.masks[number].mean())
    assert len(list((tmp_path / "o").iterdir())) == 3 * len(TEXTS)  # the same names both times


def test_names_do_not_collide(
    risflow: Command, tmp_path: Path, model: Path, image_file: Path
) -> None:
    (tmp_path / "other").mkdir()
    shutil.copy(image_file, tmp_path / "other" / image_file.name)
    rows = ["a photo.png,the cup", "a photo.png,the-cup", "other/a photo.png,the cup"]
    rows += ["a photo.png,die Täße", "a photo.png,杯子", "a photo.png,../../../etc"]
    rows += [f"a photo.png,{'long ' * 100}", "a photo.png,the cup"]
    table = tmp_path / "rows.csv"
    table.write_text("\ufeffimage,expression\n" + "\n".join(rows), encoding="utf-8")
    done = risflow("predict", "--table", table, "--model", model, "--output", tmp_path / "o")
    assert done.exit_code == 0, done.output
    assert len(list((tmp_path / "o").glob("*.json"))) == len(rows) - 1  # one is there twice
    assert all(path.parent == tmp_path / "o" for path in (tmp_path / "o").iterdir())
    assert "only the first words are read" in done.stderr


def test_the_newest_finished_segmentor_is_taken_and_named(
    risflow: Command, tmp_path: Path, model: Path, image_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = risflow("predict", image_file, "x")
    assert done.exit_code == 0, done.output
    assert "no experiment has a segmentor yet: the released model of the demo" in done.stderr
    (tmp_path / "data").symlink_to(ROOT / "data")
    for age, name in ((10, "newer"), (20, "older")):
        folder = tmp_path / "results" / name / "segmentor"
        folder.mkdir(parents=True)
        shutil.copy(model, folder / "model.safetensors")
        os.utime(folder / "model.safetensors", 2 * (time.time() - age,))
    done = risflow("predict", image_file, "x")
    assert done.exit_code == 0, done.output
    assert "results/newer/segmentor/model.safetensors" in done.stderr
    assert "note: the newest of 2 segmentors; --model chooses another" in done.stderr
    (tmp_path / "results/newest").mkdir()
    (tmp_path / "results/newest/segmentor").symlink_to("../work/segmentor/x-0123456789ab")
    done = risflow("predict", image_file, "x")
    assert "note: results/newest/segmentor: not trained yet, so that another" in done.stderr


def test_a_folder_stands_for_its_images(
    risflow: Command, tmp_path: Path, model: Path, image_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").symlink_to(ROOT / "data")
    for name in ("photos/b.png", "photos/a.png", "photos/notes.txt", "red/c.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(image_file, tmp_path / name)
    done = risflow("predict", "photos", "red", "--model", model, "--json")
    assert done.exit_code == 0, done.output
    answers = [(answer["image"], answer["expression"]) for answer in json.loads(done.stdout)]
    assert answers == [("photos/a.png", "red"), ("photos/b.png", "red")]
    assert "not taken" not in done.stderr
    (tmp_path / "photos/more.png").mkdir()
    again = risflow("predict", "photos", "red", "--model", model, "--output", "photos", "--json")
    again = risflow("predict", "photos", "red", "--model", model, "--output", "photos", "--json")
    assert [answer["image"] for answer in json.loads(again.stdout)] == [name for name, _ in answers]
    assert "photos: images in folders inside it are not taken" in again.stderr
    done = risflow("predict", image_file, "red/", "a ring", "--model", model, "--json")
    assert [answer["image"] for answer in json.loads(done.stdout)] == [str(image_file), "red/c.png"]
    (tmp_path / "empty").mkdir()
    done = risflow("predict", "empty", "red", "--model", model)
    assert done.exit_code == 1 and "empty: no image in this folder; needed .jpg" in done.stderr


def test_mistakes_are_one_line(
    risflow: Command, tmp_path: Path, model: Path, image_file: Path
) -> None:
    text, large = tmp_path / "text.png", tmp_path / "large.png"
    text.write_text("no picture")
    Image.new("L", (12_000, 9_000)).save(large)
    table, broken = tmp_path / "table.csv", tmp_path / "broken.safetensors"
    table.write_text("picture,expression\na.png,x\n")
    broken.write_bytes(model.read_bytes()[:1000])
    gone = tmp_path / "gone.csv"
    gone.write_text("image,expression\nno.png,y\n")
    own = ("--output", tmp_path / "o")
    with_model = ("--model", model, *own)
    cases = [
        ((text, "x", *with_model), r"text\.png: not a readable image"),
        ((tmp_path / "no.png", "x", *with_model), r"no\.png: no such image"),
        ((large, "x", *with_model), "12000 x 9000 is 108 megapixels; at most 50 are taken"),
        ((image_file, " ", *with_model), "expression 1 is empty"),
        ((image_file, "x" * 10_000, *with_model), "expression 1 has 10,000 characters"),
        (
            (image_file, "x", *own, "--model", tmp_path / "no"),
            "no: no such file; needed a model file",
        ),
        ((image_file, "x", *own, "--model", image_file), "not weights .it is a PNG image"),
        ((image_file, "x", *own, "--model", broken), "not a whole safetensors file"),
        ((image_file, "x", *own, "--model", ROOT / "data/small_clip.safetensors"), "holds nothing"),
        ((image_file, "x", "--model", model, "--output", text), "png: a file; needed a folder"),
        ((image_file, "x", "--model", model, "--output", text / "o"), "Not a directory"),
        (("--table", table, *with_model), r"table\.csv: no column 'image' among picture"),
        (("--table", gone, *with_model), r"gone\.csv:2: image 'no\.png' is not in"),
        (
            ("--table", image_file, *with_model),
            r"ends in .\.png.; needed a table that",
        ),
    ]
    if not torch.cuda.is_available():
        on_gpu = (image_file, "x", "--device", "cuda", *with_model)
        cases.append((on_gpu, "cuda; PyTorch sees no GPU"))
    for arguments, message in cases:
        done = risflow("predict", *arguments)
        assert done.exit_code == 1, (arguments, done.output)
        assert re.search(message, done.stderr), (message, done.stderr)
        assert done.stderr.count("\n") == 1 and not done.stdout, done.output
    for wrong in (
        (),
        (image_file,),
        (image_file, "x", "--table", table),
        (image_file, "x", "--device", "x"),
        (image_file, "x", "--max-megapixels", "inf"),
    ):
        assert risflow("predict", *wrong).exit_code == 2
    assert not (tmp_path / "o").exists() or not list((tmp_path / "o").iterdir())
    for most, code in (("0.002", 1), ("0.0024", 0)):
        done = risflow("predict", image_file, "x", "--max-megapixels", most, *with_model)
        assert done.exit_code == code, done.output


def test_an_interrupted_command_leaves_whole_files(tmp_path: Path, model: Path) -> None:
    Image.new("RGB", (300, 200)).save(tmp_path / "a.png")
    rows = "\n".join(f"a.png,thing {number}" for number in range(5000))
    (tmp_path / "rows.csv").write_text(f"image,expression\n{rows}\n")
    output = tmp_path / "o"
    arguments = ["--table", tmp_path / "rows.csv", "--model", model, "--output", output]
    running = subprocess.Popen(
        [sys.executable, "-m", "risflow.cli", "predict", *map(str, arguments)],
        stderr=subprocess.PIPE,
        text=True,
    )
    while not list(output.glob("*.json")):
        assert running.poll() is None
        time.sleep(0.05)
    running.send_signal(signal.SIGINT)
    assert "Traceback" not in running.communicate(timeout=60)[1]
    assert running.returncode == 130
    names = {path.name for path in output.iterdir()}
    assert not [name for name in names if name.startswith(".")]
    for path in output.glob("*.json"):
        json.loads(path.read_text())
    for path in output.glob("*.png"):
        pixels(path)


def test_loading_a_model_changes_nothing_of_the_host(model: Path) -> None:
    def state() -> tuple[object, ...]:
        mode = torch.get_deterministic_debug_mode()
        return torch.get_num_threads(), mode, torch.get_rng_state().tolist()

    before = torch.get_num_threads(), torch.get_deterministic_debug_mode()
    torch.set_num_threads(before[0] + 1)
    torch.set_deterministic_debug_mode("default")
    try:
        at_first = state()
        api.load(model, device="cpu")
        assert state() == at_first
    finally:
        torch.set_num_threads(before[0])
        torch.set_deterministic_debug_mode(before[1])


def test_json_that_nobody_reads_is_one_line(model: Path, image_file: Path, tmp_path: Path) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [
            *(sys.executable, "-m", "risflow.cli", "predict", str(image_file), "the square"),
            *("--model", str(model), "--output", str(tmp_path), "--json"),
        ],
        stdout=writer,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )
    os.close(writer)
    assert done.returncode == 1
    limits, error = done.stderr.splitlines()
    assert "knows drawn shapes" in limits and error == "error: output: Broken pipe"
