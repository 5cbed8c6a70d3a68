"""ReferIt in TRIS's files: read to samples that were worked out by hand, small refs, bad rows."""

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from stages import encode_text, evaluate, prepare, score, train_stage1
from stages.config.datasets import DatasetConfig
from stages.config.load import load_configs
from stages.reporting.table import label_in_report, text_table
from stages.runtime.errors import InputError
from stages.storage.files import read_json
from stages.storage.masks import decode, encode
from stages.storage.tables import Samples, read_samples, write_table
from tests.conftest import ROOT

WIDTH, HEIGHT = 40, 20  # a box of 40 pixels covers 5 %


def annotation(ref: int, query: str, *corners: int) -> dict[str, Any]:
    """What TRIS's files hold of an expression: its object is the rectangle of the corners."""
    left, top, right, bottom = corners
    mask = np.zeros((HEIGHT, WIDTH), bool)
    mask[top:bottom, left:right] = True
    return {
        "ref_id": ref,
        "image_id": 1000,
        "query": query,
        "category": {7},
        "bbox": [list(corners)],
        "bbox_norm": [[left / WIDTH, top / HEIGHT, right / WIDTH, bottom / HEIGHT]],
        "segmentation": [{"size": [HEIGHT, WIDTH], "counts": encode(mask)}],
        "idx": [0],
        "image_size": (HEIGHT, WIDTH, 3),
    }


def image(*annotations: dict[str, Any]) -> dict[str, Any]:
    size = (HEIGHT, WIDTH, 3)
    return {"size": size, "queries": [], "captions": [], "annotations": list(annotations)}


def files(folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Train and test of three photographs, one of which lies in a folder of the archive."""
    (folder / "images/saiapr_tc-12/01/images").mkdir(parents=True)
    for name in ("999", "saiapr_tc-12/01/images/1000", "1001"):
        Image.new("RGB", (WIDTH, HEIGHT), "blue").save(folder / f"images/{name}.jpg")
    left = annotation(5, "sky on the left", 0, 0, 10, 8)
    small = annotation(6, "bird", 20, 2, 22, 5)
    train = {"999": image(left, small, {**left, "query": "blue sky"})}
    exactly = annotation(7, "cloud", 0, 0, 10, 4)  # 40 pixels: not more than 5 %
    more = annotation(8, "large cloud", 0, 0, 41 - 1, 2)
    test = {"1000": image(exactly, more), "1001": image(small)}
    return train, test


def prepared(folder: Path, **options: Any) -> Samples:
    given = {"annotations": folder / "annotations", "images": folder / "images", **options}
    prepare.run(folder / "out/samples.json", DatasetConfig(source="referit", **given))
    return read_samples(folder / "out/samples.json")


def write(folder: Path, **splits: Any) -> None:
    (folder / "annotations/parsed").mkdir(parents=True, exist_ok=True)
    for name, content in splits.items():
        (folder / f"annotations/parsed/{name}.pickle").write_bytes(pickle.dumps(content))


def test_the_files_become_refs_with_their_expressions(tmp_path: Path) -> None:
    train, test = files(tmp_path)
    write(tmp_path, train=train, test=test)
    samples = prepared(tmp_path)
    assert samples.objects.split.tolist() == ["train", "train", "test"]
    assert samples.objects.name.tolist() == ["5", "6", "8"]
    assert samples.expressions.text.tolist() == [
        *("sky on the left", "blue sky", "bird", "large cloud")
    ]
    assert samples.expressions.object.tolist() == [0, 0, 1, 2]
    boxes = [[float(value) for value in box] for each in samples.objects.boxes for box in each]
    assert boxes == [[0, 0, 10, 8], [20, 2, 2, 3], [0, 0, 40, 2]]
    pixels = [decode(runs, HEIGHT, WIDTH).sum() for runs in samples.objects["mask"]]
    assert pixels == [80, 6, 80]
    assert [Path(file).name for file in samples.images.file] == ["999.jpg", "1000.jpg"]


def test_refs_of_at_most_a_twentieth_of_the_image_are_trained_on_but_not_evaluated(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    train, test = files(tmp_path)
    write(tmp_path, train=train, test=test)
    with caplog.at_level("INFO"):
        assert "6" in prepared(tmp_path).objects.name.tolist()
    assert "test.pickle: 2 small objects are left out, as in the official code" in caplog.text


def test_stage_1_takes_each_annotation_as_an_item(tmp_path: Path) -> None:
    """As ImageLoader_train: three annotations of two objects are two steps of two, not one."""
    train, test = files(tmp_path)
    write(tmp_path, train=train, test=test)
    samples = prepared(tmp_path).split("train")
    experiment = load_configs(ROOT / "configs").experiments["refshapes_tris"]
    config, judge = experiment.stage1, experiment.judge
    brief = {"epochs": 1, "batch_size": 2, "image_size": 32, "weight_negatives": 0}
    features, model = tmp_path / "text.safetensors", tmp_path / "model.safetensors"
    file = tmp_path / "out/samples.json"
    encode_text.run(file, features, judge)
    steps = {}
    for count in (1, None):
        chosen = config.model_copy(update={**brief, "expressions_per_object": count})
        train_stage1.run(file, features, model, chosen, judge)
        steps[count] = read_json(tmp_path / "losses.json")[-1]["step"]
    assert (len(samples.objects), len(samples.expressions)) == (2, 3)
    assert steps == {1: 1, None: 2}


def test_hit_and_boxes_are_in_scores_and_table(tmp_path: Path) -> None:
    """The object's box is 40 x 2; the predicted one covers its left half, and the peak is there."""
    train, test = files(tmp_path)
    write(tmp_path, train=train, test=test)
    samples = prepared(tmp_path)
    predicted = np.zeros((HEIGHT, WIDTH), bool)
    predicted[:2, :20] = True
    row = {"expression": 3, "object": 2, "height": HEIGHT, "width": WIDTH, "row": 1, "column": 5}
    row |= {"mask": encode(predicted), "score": 1.0, "no_target": False}
    masks, rows = tmp_path / "predictions.parquet", tmp_path / "rows.parquet"
    write_table(masks, "predictions", [row])
    assert samples.expressions.text[3] == "large cloud"
    file, metrics = tmp_path / "out/samples.json", tmp_path / "test.json"
    table_rows = []
    for scored in ("stage1", "segmentor"):
        evaluate.run(file, "test", scored, rows, [masks], boxes=True)
        score.run(file, "referit", "test", scored, [rows], metrics, tmp_path / "all.parquet")
        entry = read_json(metrics) | {"experiment": "it"}
        scores = entry["scores"]
        assert scores["pointing_accuracy"] == 1
        assert (scores["box_iou"], scores["box_accuracy"]) == (0.5, 0)
        table_rows.append(entry)
    text = text_table(table_rows, label_in_report("it"), {})
    assert "box mIoU" in text.splitlines()[0] and "box acc" in text.splitlines()[0]
    assert [line.split()[-2:] for line in text.splitlines()[1:3]] == 2 * [["50.0", "0.0"]]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"ref_id": None, "bbox": [[1, 2]]}, "image 999: .* needed annotations as TRIS has them"),
        ({"query": ""}, "image 999, annotation 0: empty expression"),
        ({"bbox": [[0, 0, 50, 8]]}, "image 999, ref 5: box .* reaches out of its image of 40 x 20"),
        ({"segmentation": [{"size": [2, 2], "counts": [4]}]}, "ref 5: its mask: of 2 x 2 pixels"),
    ],
)
def test_a_bad_annotation_is_told_with_its_place(
    tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    train, _ = files(tmp_path)
    train["999"]["annotations"][0].update(change)
    write(tmp_path, train=train)
    with pytest.raises(InputError, match=message):
        prepared(tmp_path)


def test_a_missing_annotation_and_a_missing_photograph_are_told(tmp_path: Path) -> None:
    train, _ = files(tmp_path)
    write(
        tmp_path,
        train={**train, "4": {"size": (1, 1, 3)}, "77": image(annotation(1, "a", 0, 0, 9, 9))},
    )
    with pytest.raises(InputError) as caught:
        prepared(tmp_path)
    assert "image 4: nothing under 'annotations'" in str(caught.value)
    assert "77.jpg: no such image" in str(caught.value)


class Hostile:
    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return exec, ("raise SystemExit('a hostile pickle was run')",)


def test_what_is_no_referit_is_refused(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    with pytest.raises(InputError, match=r"annotations: no such folder; needed that of train"):
        prepared(tmp_path)
    write(tmp_path, other={})
    with pytest.raises(InputError, match=r"annotations: no train\.pickle in it"):
        prepared(tmp_path)
    write(tmp_path, train=[1])
    with pytest.raises(InputError, match=r"train\.pickle: holds list; needed images by their"):
        prepared(tmp_path)
    write(tmp_path, train={"1": Hostile()})
    with pytest.raises(InputError, match=r"cannot be read .it asks for builtins\.exec"):
        prepared(tmp_path)
    (tmp_path / "annotations/train.pickle").write_bytes(b"")
    with pytest.raises(InputError, match=r"needed one file for each split"):
        prepared(tmp_path)
