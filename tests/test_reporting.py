"""The pages, and the parts that they are made of."""

import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from stages import compare, evaluate, make_report, score
from stages.config.encoders import ClipSource
from stages.config.experiment import Experiment
from stages.config.figures import Figures
from stages.config.segmentors import TrisOptions
from stages.config.steps import Evaluation
from stages.reporting import table
from stages.reporting.breakdown import AREAS, WORDS, bin_names, bins, breakdowns
from stages.reporting.curves import loss_curve, precision_curve, training_curves
from stages.reporting.pipeline import (
    PipelineStep,
    duration,
    place,
    provenance_rows,
    read_pipeline,
    step_rows,
)
from stages.reporting.plots import line_styles
from stages.runtime.errors import InputError
from stages.storage.files import read_json, write_json
from stages.storage.masks import decode, encode
from stages.storage.tables import read_samples, write_table
from stages.training.provenance import write_provenance
from tests.conftest import ROOT, few_shapes, file_hash, write_steps

SCORES = {"mean_iou": 0.5, "mean_iou_low": 0.4, "mean_iou_high": 0.625, "overall_iou": 0.25}


def entry(experiment: str, scored: str, dataset: str = "shapes", **scores: Any) -> dict[str, Any]:
    about = {"experiment": experiment, "dataset": dataset, "scored": scored, "split": "val"}
    return {**about, "scores": {**SCORES, **scores}, "groups": {}}


def expressions(ious: list[float], **columns: Any) -> pd.DataFrame:
    """Scored expressions, an image each, of two words on a tenth of it."""
    count = len(ious)
    rows = {
        "expression": range(count),
        "image": range(count),
        "kind": [None] * count,
        "words": [2] * count,
        "area": [0.1] * count,
        "iou": ious,
        "no_target": [False] * count,
        "group": ["right"] * count,
    }
    return pd.DataFrame({**rows, **columns})


# ------------------------------------------------------------------------------------- curves


def test_the_same_losses_give_the_same_curve() -> None:
    history = [
        {"step": step, "epoch": step / 2, "learning_rate": 0.1, "loss": 2.0 / step, "mask": 1.0}
        for step in range(1, 4)
    ]
    curve = loss_curve("training", history)
    assert curve == loss_curve("training", history)
    assert curve.startswith("<svg") and "mask" in curve


def test_scores_of_epochs_are_drawn_beside_the_losses_with_the_epoch_that_is_kept() -> None:
    losses = {"step": 1, "epoch": 0.5, "learning_rate": 0.1, "loss": 2.0, "mask": 1.0}
    scores = {"mean_iou": 0.25, "overall_iou": 0.5, "precision_50": 0.125}
    rows = [
        {"step": 2 * epoch, "epoch": epoch, "split": "val", **scores, "kept": epoch == 3}
        for epoch in range(1, 5)
    ]
    alone, (curve, shown) = (training_curves("stage 1", h) for h in ([losses], [losses, *rows]))
    assert alone == [curve]
    for text in ("stage 1 on val", "mIoU", "P@0.5", "kept: epoch 3 (mIoU 25.0 %)"):
        assert f">{text}<" in shown


def test_a_precision_curve_names_its_lines_and_units() -> None:
    curve = precision_curve("all", {"one": [0.2, 0.9], "other": [0.5, 0.5]})
    for text in ("one", "other", "IoU threshold", "(%)"):
        assert f">{text}" in curve or f"{text}<" in curve


def test_lines_differ_in_color_marker_or_dash() -> None:
    styles = line_styles(str(number) for number in range(20)).values()
    assert len({tuple(style.values()) for style in styles}) == 20


# ---------------------------------------------------------------------------------- breakdown


def test_bins_are_named_by_what_is_in_them() -> None:
    assert bin_names(WORDS) == ["1", "2", "3", "4", "5–6", "7–9", "10–14", "15 or more"]  # noqa: RUF001
    assert bins(pd.Series([1, 4, 6, 7, 99]), WORDS) == ["1", "4", "5–6", "7–9", "15 or more"]  # noqa: RUF001
    actual = bins(pd.Series([0.0, 0.99, 1.0, 60.0]), AREAS, whole=False)
    assert actual == ["0–1", "0–1", "1–2", "40 or more"]  # noqa: RUF001


def test_expressions_are_counted_by_kind_length_and_size() -> None:
    rows = expressions(
        [0.1, 0.2, 0.3, 1.0],
        kind=["place", "place", "place", "nothing"],
        words=[1, 3, 3, 3],
        area=[0.03, 0.03, 0.3, 0.0],
        no_target=[False, False, False, True],
    )
    kind, length, size = breakdowns({"it": rows}, line_styles(["it"]))
    assert [counted(plot) for plot in (kind, length, size)] == [[1, 3], [1, 3], [2, 1]]


def test_expressions_without_a_kind_are_not_shown_by_kind() -> None:
    assert len(breakdowns({"it": expressions([0.1, 0.2])}, line_styles(["it"]))) == 2


def counted(plot: str) -> list[int]:
    return [int(count) for count in re.findall(r"n = (\d+)<", plot)]


# -------------------------------------------------------------------------------------- table


def test_figures_follow_the_score_that_they_are_of() -> None:
    figures = Figures(
        published={"val": {"mean_iou": 70.47}, "test": {"mean_iou": 1}},
        expected={"val": {"mean_iou": (49, 51), "overall_iou": (25, 26)}},
    )
    entries = [entry("it", "center_box"), entry("it", "segmentor")]
    rows = table.rows(entries, table.label_in_comparison, {"it": figures})
    assert [(row.name, row.cells[:3]) for row in rows] == [
        ("center box", ["50.0", "40.0-62.5", "25.0"]),
        ("it", ["50.0", "40.0-62.5", "25.0"]),
        ("published", ["70.5", "", ""]),
        ("expected, met", ["49.0-51.0", "", "25.0-26.0"]),
    ]
    far = {"it": Figures(expected={"val": {"mean_iou": (49, 51), "pointing_accuracy": (1, 2)}})}
    assert table.rows(entries, table.label_in_comparison, far)[-1].name == "expected, not met"


def test_figures_are_held_against_the_scores_in_the_square_of_the_model() -> None:
    square = {"side": 480, "mean_iou": 0.6, "generalized": {"g_iou": 0.62}}
    own = {"mean_iou": 0.5, "generalized": {"g_iou": 0.52}, "square": square}
    figures = {"it": Figures(published={"val": {"g_iou": 61.0}})}
    result = table.rows([entry("it", "segmentor", **own)], table.label_in_comparison, figures)
    heads = list(table.columns([entry("it", "segmentor", **own)]))
    columns = heads.index("mean_iou"), heads.index("g_iou")
    assert [(row.name, row.kind, *(row.cells[c] for c in columns)) for row in result] == [
        ("it", "scored", "50.0", "52.0"),
        ("at 480 x 480 pixels", "square", "60.0", "62.0"),
        ("published", "published", "", "61.0"),
        ("expected, met", "expected", "", "59.0-63.0"),
    ]


def test_what_nobody_measured_is_expected_near_the_paper() -> None:
    measured = {"val": {"mean_iou": (49.0, 51.0)}}
    published = {
        "val": {"mean_iou": 70.4},
        "test": {"mean_iou": 70.47, "pointing_accuracy": 99.0, "n_acc": 1.5},
    }
    figures = Figures(published=published, expected=measured)
    assert figures.ranges("val") == measured["val"]
    around = {"mean_iou": (68.47, 72.47), "pointing_accuracy": (97.0, 100.0), "n_acc": (0.0, 3.5)}
    assert figures.ranges("test") == around
    assert figures.ranges("testA") == {}


def test_a_comparison_has_a_table_and_plots_for_each_data_set(tmp_path: Path) -> None:
    generalized = {"g_iou": 0.75, "n_acc": None, "precision_70": 1.0}
    rows = [
        entry("a", "center_box"),
        entry("a", "segmentor"),
        entry("b", "segmentor", "general", generalized=generalized),
    ]
    metrics = [tmp_path / f"{number}.json" for number in range(len(rows))]
    results = [path.with_suffix(".parquet") for path in metrics]
    for path, scores, actual in zip(metrics, rows, results, strict=True):
        write_json(path, scores)
        expressions([0.1, 0.9]).to_parquet(actual)
    figures = {"b": {"published": {"val": {"g_iou": 60}}, "expected": {}}}
    shown = [[row["experiment"], row["scored"], row["split"]] for row in rows]
    options = {"rows": shown, "figures": figures, "values": {}}
    steps = write_steps(tmp_path, "both", [], options=options)
    page = tmp_path / "page.html"
    compare.run(steps, metrics, results, page, tmp_path / "table.txt")
    first, second = (tmp_path / "table.txt").read_text().split("general\n")
    assert [line.split()[:4] for line in first.splitlines()[2:5]] == [
        ["val", "mIoU", "95", "%"],
        ["center", "box", "50.0", "40.0-62.5"],
        ["a", "50.0", "40.0-62.5", "25.0"],
    ]
    assert "gIoU" not in first
    measured, published, expected = second.splitlines()[2:5]
    assert measured.split() == ["b", "50.0", "40.0-62.5", "25.0", *5 * ["-"], "75.0", *3 * ["-"]]
    assert published.split() == ["published", "60.0"]
    assert expected.split() == ["expected,", "not", "met", "58.0-62.0"]
    assert page.read_text().count("<svg") == 2 * 4  # no kind of expression is known


def test_results_of_an_earlier_version_are_named(tmp_path: Path) -> None:
    write_json(tmp_path / "m.json", entry("a", "segmentor"))
    expressions([0.1]).drop(columns="group").to_parquet(tmp_path / "r.parquet")
    with pytest.raises(InputError, match=r"r\.parquet: .*run again with --forcerun evaluate"):
        files = [tmp_path / "m.json"], [tmp_path / "r.parquet"]
        steps = write_steps(tmp_path, "it", [["a", "segmentor", "val"]])
        compare.run(steps, *files, tmp_path / "page.html", tmp_path / "table.txt")


def test_a_sweep_has_one_plot_of_all_its_combinations(tmp_path: Path) -> None:
    values = {
        f"grid_{steps}_{dice}": {"propagation.steps": steps, "segmentor.dice": dice}
        for steps in (32, 64)
        for dice in (0.5, 1.0)
    }
    rows = [[name, "segmentor", "val"] for name in values]
    metrics = [tmp_path / f"{name}.json" for name in values]
    results = [path.with_suffix(".parquet") for path in metrics]
    for number, (path, table_of) in enumerate(zip(metrics, results, strict=True)):
        write_json(path, entry("any", "segmentor", mean_iou=0.45 + number / 100))
        expressions([0.1, 0.9]).to_parquet(table_of)
    for path, name in zip(metrics, values, strict=True):
        write_json(path, {**read_json(path), "experiment": name})
    options = {"rows": rows, "figures": {name: {} for name in values}, "values": values}
    steps = write_steps(tmp_path, "grid", [], options=options)
    compare.run(steps, metrics, results, tmp_path / "page.html", tmp_path / "table.txt")
    page = (tmp_path / "page.html").read_text()
    assert page.count("mIoU of the sweep on val") == 1
    for text in ("propagation.steps", "segmentor.dice 0.5", "segmentor.dice 1.0"):
        assert text in page


# ------------------------------------------------------------------------------------ the run


def benchmark(path: Path, seconds: float, memory: str) -> Path:
    path.write_text(
        f"s\th:m:s\tmax_rss\tmean_load\tcpu_time\n{seconds}\t0:00:00\t{memory}\t90\t{seconds * 2}\n"
    )
    return path


def box(name: str, *needs: str, folder: Path = Path("none")) -> PipelineStep:
    """A step of a pipeline, with one folder of results."""
    return PipelineStep(name, name, "own", needs, (folder,))


def test_times_are_summed_over_the_shards_of_a_step(tmp_path: Path) -> None:
    for name in ("masks", "brief"):
        (tmp_path / name).mkdir()
    for shard in range(3):
        benchmark(tmp_path / f"masks/masks-{shard}-of-3.tsv", 40.0, f"{100 + shard}")
    benchmark(tmp_path / "brief/brief.tsv", 0.5, "-")
    pipeline = [box(name, folder=tmp_path / name) for name in ("masks", "brief", "new")]
    rows = [list(row.values()) for row in step_rows(pipeline)]
    assert rows == [
        ["masks", "own", "3", "2 min 00 s", "4 min 00 s", "102 MB"],
        ["brief", "own", "1", "0.5 s", "1.0 s", "-"],
        ["together", "", "4", "2 min 00 s", "4 min 01 s", "102 MB"],
    ]


def test_the_pipeline_is_that_of_the_steps_that_scores_are_made_of(tmp_path: Path) -> None:
    def step(place: str, name: str, *sources: str) -> dict[str, object]:
        return {"place": f"work/{place}", "step": name, "sources": [f"work/{s}" for s in sources]}

    steps = [
        step("samples/a", "prepare"),
        step("rows/w", "evaluate", "samples/a"),
        step("scores/w", "score", "samples/a", "rows/w"),
        step("segmentor/s", "train_segmentor", "samples/a"),
        step("predictions/p", "predict", "samples/a", "segmentor/s"),
        step("rows/r", "evaluate", "samples/a", "predictions/p"),
        step("scores/c", "score", "samples/a", "rows/r"),
    ]
    links = {"segmentor": "work/segmentor/s", "predictions/segmentor": "work/predictions/p"}
    pipeline = read_pipeline(write_steps(tmp_path, "it", [], steps=steps, links=links))
    needs = {step.title: [need.rpartition("/")[2] for need in step.needs] for step in pipeline}
    assert needs == {
        "prepare": [],
        "train segmentor": ["a"],
        "predict segmentor": ["s"],
        "evaluate": ["a", "p"],
        "score": ["evaluate"],
    }
    assert [step.owner for step in pipeline] == ["data", *["own"] * 4]
    assert pipeline[0].folders == (tmp_path / "results/work/samples/a",)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.04, "0.0 s"), (9.94, "9.9 s"), (59.4, "59 s"), (59.6, "1 min 00 s"), (7260, "2 h 01 min")],
)
def test_a_duration_is_told_as_a_person_would(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_steps_are_below_what_they_need_and_beside_what_they_do_not() -> None:
    needs = {"data": [], "train": ["data"], "bound": ["data"], "use": ["train"], "score": []}
    needs["score"] = ["use", "bound"]
    steps = [box(name, *of) for name, of in needs.items()]
    rows, lanes = place(steps)
    assert rows == {"data": 0, "train": 1, "bound": 1, "use": 2, "score": 3}
    assert lanes == {"data": 0, "train": 0, "bound": 1, "use": 0, "score": 0}


def test_the_provenance_of_a_model_is_beside_it(tmp_path: Path) -> None:
    write_provenance(tmp_path / "model.safetensors")
    steps = [box("train", folder=tmp_path), box("new", folder=tmp_path / "none")]
    trainings, rows = provenance_rows(steps)
    assert trainings == ["train"]
    assert {"finished", "risflow", "commit", "torch", "device", "machine"} <= {n for n, _ in rows}
    assert provenance_rows(steps[1:]) == ([], [])


def test_the_page_says_which_epoch_was_best_and_which_is_kept(tmp_path: Path) -> None:
    epochs = [{"epoch": 2, "mean_iou": 0.61}, {"epoch": 4, "mean_iou": 0.6}]
    about = {"split": "val", "metric": "mean_iou", "keep": "last", "epochs": epochs}
    about |= {"kept_epoch": 4, "best_epoch": 2, "best_value": 0.61}
    write_json(tmp_path / "run.json", {"steps": 40, "validation": about})
    _, rows = provenance_rows([box("train", folder=tmp_path)])
    text = "mIoU 61.0 % on val after epoch 2; epoch 4 kept"
    assert rows == [("steps", ["40"]), ("validation", [text])]


# ----------------------------------------------------------------------------------- the page


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return few_shapes(
        tmp_path_factory.mktemp("shapes"), train_images=1, val_images=5, test_images=1
    )


def scored_predictions(samples: Path, folder: Path) -> dict[str, list[Path]]:
    """Of each image in turn: the true mask, another object's, twice too much, a corner, nothing."""
    part = read_samples(samples).split("val")
    rows = part.expressions.merge(part.objects, on="object").merge(part.images, on="image")
    images = sorted(rows.image.unique())
    masks = []
    for row in rows.itertuples():
        truth = decode(row.mask, row.height, row.width)
        others = part.objects[
            (part.objects.image == row.image) & (part.objects.object != row.object)
        ]
        other = decode(others["mask"].iloc[0], row.height, row.width)
        half = np.zeros_like(truth)
        half[:, : int(np.median(np.nonzero(truth)[1]))] = True
        choices = [truth, other, np.ones_like(truth), truth & half, truth & False]
        masks.append(encode(choices[images.index(row.image)]))
    predicted = rows.assign(
        mask=masks, row=0, column=0, score=1.0, no_target=False, input_mask=None
    )
    files = {name: [folder / name] for name in ("predictions", "metrics", "results", "losses")}
    write_table(files["predictions"][0], "predictions", predicted)
    rows, where = folder / "rows", [files["metrics"][0], files["results"][0]]
    evaluate.run(samples, "val", "segmentor", rows, files["predictions"])
    score.run(samples, "shapes", "val", "segmentor", [rows], *where)
    write_json(files["losses"][0], [{"step": 1, "epoch": 1.0, "learning_rate": 0.1, "loss": 2.0}])
    return files


def test_a_page_tells_of_collapsed_steps_unknown_words_and_files(
    samples: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    files = scored_predictions(samples, tmp_path)
    clip = ClipSource(model="data/small_clip.json", weights=Path("data/small_clip.safetensors"))
    segmentor = TrisOptions(clip=clip, image_size=96)
    experiment = Experiment(dataset="shapes", supervision="masks", segmentor=segmentor)
    places = {"maps": "work/maps/a", "masks/labels-coco": "work/masks/b"}
    steps = write_steps(
        tmp_path / "page",
        "it",
        [["it", "segmentor", "val"]],
        links=places,
        trainings={"segmentor": "work/segmentor/c"},
        steps=[{"place": place, "step": "some", "sources": []} for place in places.values()],
    )
    folder = tmp_path / "page/results/work"
    counts = {"kind": "response maps", "total": 12, "empty": 12, "whole": 0}
    write_json(folder / "maps/a/maps-train-0-of-1.run.json", counts)
    record = folder / "masks/b/masks-val.json"
    write_json(record, {"split": "val", "images": 5, "masks": 1200, "empty": 2})
    page, table_file = tmp_path / "page.html", tmp_path / "scores.txt"
    arguments = {**files, "report": page, "scores": table_file, "taken_away": [record]}
    make_report.run(steps, experiment, samples, **arguments)
    collapse = "warning: 12 of 12 response maps of train are empty: stage 1 learned nothing; usual"
    for text in (page.read_text(), table_file.read_text()):
        assert collapse in text
        assert "model knows" not in text  # all words of RefShapes are known
    assert '<a href="masks/labels-coco/val/">masks of labels, coco</a>' in page.read_text()
    assert "5 images, 1,200 masks (2 empty)" in page.read_text()

    words = pd.read_parquet(samples.with_name("expressions.parquet"))
    words["text"] = words.text.str.replace("square", "horse")
    write_table(tmp_path / "horses/expressions.parquet", "expressions", words)
    for name in ("images.parquet", "objects.parquet", "samples.json"):
        shutil.copy(samples.with_name(name), tmp_path / "horses" / name)
    make_report.run(steps, experiment, tmp_path / "horses/samples.json", **arguments)
    count = words.text.str.contains("horse").sum()
    assert "expressions have words that the model does not know: horse. The model knows" in (
        table_file.read_text()
    )
    assert 0 < count < len(words)


def test_a_page_holds_all_it_shows_and_is_the_same_each_time(samples: Path, tmp_path: Path) -> None:
    files = scored_predictions(samples, tmp_path)
    groups = read_json(files["metrics"][0])["groups"]
    assert all(share > 0 for share in groups.values())
    assert sum(groups.values()) == pytest.approx(1)
    experiment = Experiment(
        dataset="shapes", supervision="masks", evaluation=Evaluation(splits=("val",))
    )
    places = {"samples": "work/samples/a", "segmentor": "work/segmentor/b"}
    steps = write_steps(
        tmp_path / "page",
        "it",
        [["it", "segmentor", "val"]],
        links=places,
        trainings={"segmentor": places["segmentor"]},
        steps=[
            {"place": places["samples"], "step": "prepare", "sources": []},
            {"place": places["segmentor"], "step": "train", "sources": [places["samples"]]},
        ],
    )
    (tmp_path / "page/results" / places["segmentor"]).mkdir(parents=True)
    benchmark(tmp_path / "page/results" / places["segmentor"] / "times.tsv", 75.0, "812")
    pages = [tmp_path / "first.html", tmp_path / "second.html"]
    for page in pages:
        make_report.run(
            steps,
            experiment,
            samples,
            **files,
            report=page,
            scores=tmp_path / "scores.txt",
        )
    assert file_hash(pages[0]) == file_hash(pages[1])
    text = pages[0].read_text()
    assert not re.search(r"""(src|href)=["']https?:|url\(["']?https?:""", text)
    assert "1 min 15 s" in text and "812 MB" in text and "not run here" in text
    for title in ("best predictions", "median predictions", "worst predictions", "wrong object"):
        assert title in text
    best, worst = text.index("best predictions"), text.index("worst predictions")
    notes = [
        re.findall(r"prediction</b> IoU (\d+)", part)[0] for part in (text[best:], text[worst:])
    ]
    assert notes == ["100", "0"]
