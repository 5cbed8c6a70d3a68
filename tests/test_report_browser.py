"""What a reader browses on a page: examples as layers, and how segmentors differ."""

import base64
import io
import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from playwright.sync_api import sync_playwright

from stages import compare, evaluate, score
from stages.reporting import overlay
from stages.reporting.browser import browse
from stages.reporting.differences import option_rows, paired_differences
from stages.reporting.examples import Examples, Shards
from stages.storage.masks import decode, encode
from stages.storage.tables import Samples, read_samples, write_table
from stages.storage.weights import save_weights
from tests.conftest import few_shapes, write_steps

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("chrome")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return few_shapes(
        tmp_path_factory.mktemp("shapes"), train_images=1, val_images=5, test_images=1
    )


def predict(samples: Samples, path: Path, keep: float) -> Path:
    """Predictions of val: the true mask without the right end of its width."""
    rows = samples.expressions.merge(samples.objects, on="object").merge(samples.images, on="image")
    masks = []
    for row in rows.itertuples():
        mask = decode(row.mask, row.height, row.width)
        columns = np.nonzero(mask.any(axis=0))[0]
        mask[:, columns[0] + round(keep * len(columns)) :] = False
        masks.append(encode(mask))
    path.parent.mkdir(parents=True)
    predicted = rows.assign(
        mask=masks, row=0, column=0, score=1.0, no_target=False, input_mask=None
    )
    write_table(path, "predictions", predicted)
    return path


def pixels(url: str) -> np.ndarray[Any, Any]:
    """The RGBA values of a layer."""
    content = base64.b64decode(url.partition(",")[2])
    return np.asarray(Image.open(io.BytesIO(content)).convert("RGBA"))


def test_layers_show_masks_where_they_are_and_nothing_elsewhere(
    folder: Path, tmp_path: Path
) -> None:
    samples = read_samples(folder).split("val")
    half = predict(samples, tmp_path / "half/p.parquet", 0.5)
    empty = predict(samples, tmp_path / "empty/p.parquet", 0)
    examples = Examples(samples, Shards([half], others={"other": [empty]}), None)
    browser = browse(examples, 4)
    assert len(browser.examples) == 4 and browser.total == len(samples.expressions)
    assert browser.groups == [] and browser.examples[0]["iou"] is None
    for example in browser.examples:
        title, predicted, other = example["stages"]
        assert title == {"title": "image", "note": "", "layers": []}
        assert other["note"] == "empty"
        assert not pixels(other["layers"][0])[..., 3].any()
        (row,) = samples.expressions[samples.expressions.text == example["text"]].object.iloc[:1]
        truth = decode(samples.objects.set_index("object")["mask"][row], *example["size"][::-1])
        layer = pixels(predicted["layers"][0])
        colored = layer[..., 3] > 0
        assert colored.any() and not colored[~truth].any() and (~colored[truth]).any()
        assert {tuple(color) for color in layer[colored][:, :3]} == {overlay.PREDICTION}


def test_as_many_expressions_as_asked_are_spread_over_their_iou(
    folder: Path, tmp_path: Path
) -> None:
    samples = read_samples(folder).split("val")
    files = [predict(samples, tmp_path / "p/p.parquet", 1)]
    count = len(samples.expressions)
    ids = samples.expressions.expression
    scored = pd.DataFrame({"expression": ids, "iou": np.linspace(0, 1, count)[::-1]}).assign(
        kind="place", words=3, area=0.1, no_target=False, group="right", image=0
    )
    chosen = browse(Examples(samples, Shards(files), scored), 5).examples
    ious = [example["iou"] for example in chosen]
    assert len(ious) == 5 and ious[0] == 0 and ious[-1] == 1
    np.testing.assert_allclose(np.diff(ious), 0.25, atol=1.01 / (count - 1))
    everything = browse(Examples(samples, Shards(files), scored), 1000).examples
    assert len(everything) == count
    truth = everything[0]["stages"][-1]
    edge, mask = pixels(truth["outline"])[..., 3] > 0, pixels(truth["layers"][0])[..., 3] > 0
    assert edge.any() and not edge[~mask].any() and not edge[mask].all()


def test_differences_are_paired_and_resampled_by_image() -> None:
    random = np.random.default_rng(0)
    hard = random.uniform(0, 1, 200)  # of an image, the same for both
    first = pd.DataFrame({"expression": range(200), "image": range(200), "iou": 0.5 * hard})
    better = first.assign(iou=first.iou + 0.02).sample(frac=1, random_state=1)
    fewer = first.iloc[:100].assign(iou=first.iou[:100] + np.tile([0.1, -0.1], 50))
    rows = paired_differences("val", {"a": first, "better": better, "fewer": fewer})
    assert [(row.name, row.expressions) for row in rows] == [("better", 200), ("fewer", 100)]
    assert rows[0].mean == pytest.approx(2) and rows[0].is_clear
    assert rows[0].low == pytest.approx(2) and rows[0].high == pytest.approx(2)
    assert rows[1].mean == pytest.approx(0) and not rows[1].is_clear
    assert -3 < rows[1].low < -1 and 1 < rows[1].high < 3


def test_options_that_differ_are_those_of_the_steps_behind_a_segmentor(tmp_path: Path) -> None:
    def step(place: str, *sources: str, **options: Any) -> dict[str, Any]:
        return {"place": place, "step": "any", "options": options, "sources": list(sources)}

    steps = write_steps(
        tmp_path,
        "both",
        [],
        links={"segmentor/a": "work/segmentor/a", "segmentor/b": "work/segmentor/b"},
        steps=[
            step("work/samples/s", seed=1),
            step("work/pseudo_masks/p", "work/samples/s", steps=64),
            step("work/segmentor/a", "work/pseudo_masks/p", epochs=5, clip={"model": "x"}),
            step("work/segmentor/b", "work/samples/s", epochs=5, clip={"model": "y"}, dice=0.5),
        ],
    )
    assert option_rows(steps) == (
        ["a", "b"],
        [
            ("pseudo_masks.steps", ["64", "no such step"]),
            ("segmentor.clip.model", ["x", "y"]),
            ("segmentor.dice", ["default", "0.5"]),
        ],
    )


def test_a_comparison_shows_predictions_side_by_side(folder: Path, tmp_path: Path) -> None:
    samples = read_samples(folder).split("val")
    links, metrics, results, predictions, steps = {}, [], [], [], []
    for name, keep in (("a", 0.9), ("b", 0.3)):
        for kind in ("segmentor", "predictions"):
            links[f"{kind}/{name}"] = f"work/{kind}/{name}"
        steps += [{"place": f"work/segmentor/{name}", "step": "x", "options": {}, "sources": []}]
        path = predict(samples, tmp_path / f"work/predictions/{name}/p.parquet", keep)
        rows = tmp_path / f"{name}.rows"
        metrics += [tmp_path / f"{name}.json"]
        results += [tmp_path / f"{name}.parquet"]
        evaluate.run(folder, "val", "segmentor", rows, [path])
        score.run(folder, "shapes", "val", "segmentor", [rows], metrics[-1], results[-1])
        predictions.append(path)
        model = tmp_path / f"page/results/work/segmentor/{name}/model.safetensors"
        model.parent.mkdir(parents=True)
        save_weights(model, {"x": torch.zeros(7)}, {})
    options = {
        "rows": [[name, "segmentor", "val"] for name in "ab"],
        "figures": {"a": {}, "b": {}},
        "values": {},
    }
    page = write_steps(tmp_path / "page", "both", [], options=options, links=links, steps=steps)
    report, scores = tmp_path / "page.html", tmp_path / "table.txt"
    compare.run(page, metrics, results, report, scores, folder, predictions)
    text = report.read_text()
    data = re.search(r'id="examples-data">(.*?)</script>', text, re.S)
    assert data is not None
    examples = json.loads(data[1])["examples"]
    assert len(examples) == min(compare.BROWSED, len(samples.expressions))
    assert [stage["title"] for stage in examples[0]["stages"]] == [
        "image",
        "a",
        "b",
        "ground truth",
    ]
    assert all(0.4 < example["spread"] < 0.9 for example in examples)
    difference = re.search(r"<td>b</td><td>val</td><td>(-[\d.]+)</td>", text)
    assert difference is not None and -75 < float(difference[1]) < -45
    assert "<td>a</td><td>7</td>" in text
    check_clicks(report, examples)


def check_clicks(page: Path, examples: list[dict[str, Any]]) -> None:
    """Search, filter, order and large view, as a person uses them; skipped without a Chromium."""
    if CHROMIUM is None:
        pytest.skip("no Chromium here: the page is not clicked")
    worst = min(examples, key=lambda example: example["iou"])
    best = max(example["iou"] for example in examples)
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        tab = browser.new_page()
        errors: list[str] = []
        tab.on("pageerror", lambda error: errors.append(str(error)))
        tab.goto(page.as_uri())
        cards, large = tab.locator(".card"), tab.locator("#large")
        assert cards.count() == len(examples)
        tab.select_option("select[name=order]", "-iou")
        assert f"IoU {100 * best:.0f}" in cards.first.inner_text()
        tab.select_option("select[name=order]", "iou")
        assert worst["text"] in cards.first.inner_text()

        cards.first.click()
        assert large.locator("h3").inner_text() == f"“{worst['text']}”"
        assert large.locator("figure").count() == 4
        tab.keyboard.press("ArrowLeft")  # from the first to the last
        assert large.locator("h3").inner_text() in cards.last.inner_text()
        tab.keyboard.press("Escape")
        assert not large.is_visible()

        word = worst["text"].split()[-1].upper()
        tab.fill("input[name=text]", word)
        matching = [e for e in examples if word.lower() in e["text"].lower()]
        assert cards.count() == len(matching) < len(examples)
        tab.fill("input[name=text]", "no such words")
        assert cards.count() == 0
        assert tab.locator("#filters output").inner_text() == "no expression matches"
        assert errors == []
        browser.close()
