"""The page of all rows of published tables: `make docs` writes it to docs/results.md.

Names, figures and downloads come from configs/; measured values are in this file.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path

from stages.config.experiment import Experiment
from stages.config.load import Configs, load_configs
from stages.config.requirements import downloads_of, files_of_experiment
from stages.reporting.table import BOXES, COLUMNS, GENERALIZED

HEAD = """# Results

Every experiment of `configs/experiments/`, with its expected and measured scores. To run one:

    snakemake --cores 1 fetch_coco fetch_refcoco fetch_clip       # the column `fetch`
    snakemake cris_r50_refcoco --cores 32 --resources gpu=4       # one row
    snakemake refcoco --cores 32 --resources gpu=4                # all rows of a data set, compared

`configs/experiments/cris_r50_refcoco.yaml` has the options and the source of the figures.
`results/cris_r50_refcoco/report.html` shows the scores beside the published ones.

## On the embedded data set

mIoU on val in percent, measured on two cores without a GPU. If there are two figures, the first is
of version 0.1.0 and the second of the current version, which draws other random numbers
([changes](../CHANGELOG.md)); this is like another seed. The experiment's file has the range of
`expected`, and its report shows it.

| experiment | what it is | expected | measured |
|---|---|---|---|
"""
PUBLISHED = """
These are small models trained for minutes: the rows show that each of them learns, not which is
better ([segmentors.md](segmentors.md), [refshapes.md](refshapes.md)).

## Rows of published tables

**None of these rows has been measured: each needs public data, published weights and hours of GPU
time.** Instead, golden values hold every model to its official code: logits, losses, gradients of a
training step, scores ([departures.md](departures.md)).

Figures are in percent. mIoU is the mean over expressions. oIoU pools pixels; papers often call it
cIoU. gIoU, cIoU and N-acc are gRefCOCO's. Expected is within 2 points of the paper, in the order of
the figures. Users who retrained with the official code reported similar differences (0.4 to 1.9
points lower for ReLA, 1.2 lower for LAVT, 2.2 higher for ETRIS). Measured values will replace this
range.

| experiment | data set | published | expected | measured | `fetch` |
|---|---|---|---|---|---|
"""
TAIL = """
gRefCOCO has no permanent address; put it in its place by hand ([data](../data/README.md)). To score
an official checkpoint without training, set `checkpoint` in its experiment
([segmentors.md](segmentors.md#official-checkpoints)).

## How long it takes

All epochs of a training on one H200. This is arithmetic: items per epoch, times epochs, divided by
the speed measured in bfloat16 with images in memory ([scale.md](scale.md)). Reading images adds
time if it is slower. TRIS's rows train in float32, as its code does, and take longer
(`precision: bfloat16` in `stage1` and `segmentor`).

| training | experiment | items per epoch | epochs | items / s | hours |
|---|---|---|---|---|---|
"""
EMBEDDED = {
    "refshapes_tris": (
        "the demo: from text alone",
        "55.7, 53.4, 53.3 (three seeds), 53.2 (seed 0, another machine)",
    ),
    "refshapes_beyond": (
        "from text alone, beyond TRIS",
        "69.2, 70.1, 69.5, 70.9 (four seeds)",
    ),
    "refshapes_beyond_second": ("a second round of it", "71.4"),
    "refshapes_beyond_masks": (
        "its segmentor, fully supervised",
        "75.2, 73.1, 72.5, 76.6 (four seeds)",
    ),
    "refshapes_tris_masks": (
        "its segmentor, fully supervised",
        "73.2, 69.4, 71.5 (three seeds), 72.0 (seed 0, another machine)",
    ),
    "refshapes_tris_masks_long": (
        "the same, trained half as long again",
        "75.0, 73.7, 74.8 (three seeds)",
    ),
    "refshapes_cris": ("CRIS, fully supervised", "67.3"),
    "refshapes_cris_pseudo": ("CRIS on the masks of `refshapes_beyond`", "67.4"),
    "refshapes_etris": ("ETRIS, fully supervised", "66.5"),
    "refshapes_etris_pseudo": ("ETRIS on the masks of `refshapes_beyond`", "65.9"),
    "refshapes_detris": ("DETRIS, fully supervised", "61.1"),
    "refshapes_detris_pseudo": ("DETRIS on the masks of `refshapes_beyond`", "61.7"),
    "refshapes_rela": ("ReLA, fully supervised", "66.4"),
    "refshapes_rela_pseudo": ("ReLA on the masks of `refshapes_beyond`", "64.4"),
    "refshapes_hard_tris": ("`refshapes_tris` on the hard variant", "41.8"),
    "refshapes_hard_beyond": (
        "`refshapes_beyond` on the hard variant",
        "50.4, 43.6, 51.7 (three trainings)",
    ),
    "refshapes_hard_tris_masks": ("its segmentor, fully supervised", "52.4"),
    "refshapes_hard_beyond_masks": ("the same with the CLIP of `refshapes_beyond`", "56.3"),
    "refshapes_hard_cris": ("CRIS, fully supervised, on the hard variant", "54.2"),
    "refshapes_hard_etris": ("ETRIS", "51.5"),
    "refshapes_hard_detris": ("DETRIS", "45.0"),
    "refshapes_hard_rela": ("ReLA", "53.6"),
    "refshapes_generalized_rela": (
        "ReLA; expressions of no, one or several objects",
        "gIoU 53.7, 51.7; cIoU 46.7, 46.0; N-acc 90.4, 92.4; T-acc 84.1, 81.8",
    ),
}
# Training, items a second; whose epochs, items of each.
SPEED = [
    ("TRIS stage 1, RN50", 559, "tris_r50_refcoco", 42404),
    ("TRIS stage 2, RN50", 656, "tris_r50_refcoco", 42404),
    ("CRIS, RN50", 333, "cris_r50_refcoco", 42404),
    ("ETRIS, RN101", 387, "etris_r101_refcoco", 42404),
    ("DETRIS, B", 219, "detris_base_refcoco", 42404),
    ("ReLA, Swin-T", 75, "rela_swint_grefcoco", 209344),
    ("ReLA, Swin-B", 59, "rela_swinb_grefcoco", 209344),
]
NAMES = COLUMNS | BOXES | GENERALIZED


RELEASED = """
## Released weights

These experiments import what a repository has released, train nothing, and score it. Figures are
those of the row; none is measured yet. `fetch_detris_released` and `fetch_rela_released` tell where
to put files that have no address of their own.

    snakemake tris_r50_refcocog_umd_released --cores 16 --resources gpu=1

| experiment | data set | `fetch` |
|---|---|---|
"""


BEYOND = """
## Beyond TRIS

From the same text, with what [beyond.md](beyond.md) describes. Never measured on photographs; no
paper has these rows.

| experiment | data set | measured | `fetch` |
|---|---|---|---|
"""
CORRECTED = """
## Corrected rows

A row takes the path of the code that made its published figure, slips included
([departures.md](departures.md#what-rows-take-from-the-official-code)). `<row>_corrected` is without
them. Its scores are not held against the published figures.

    snakemake tris_r50_refcocog_umd_corrected --cores 16 --resources gpu=1

| system | corrected | experiments |
|---|---|---|
"""
CHANGES = {
    "tris": "schedule of stage 2, ends of long expressions, masks of empty responses, bounded loss",
    "cris": "rates of the first epoch, last batches",
    "etris": "last batches",
    "detris": "last batches; mixed data without images that are evaluated on",
    "rela": "last batches; scored at the images' own size alone",
}


def main() -> None:
    configs = load_configs(Path(__file__).parent.parent / "configs")
    embedded = (embedded_row(name, configs.experiments[name]) for name in EMBEDDED)
    rows = {name: each for name, each in configs.experiments.items() if each.published}
    published = (row(name, each, configs) for name, each in rows.items() if not each.checkpoint)
    released = (released_row(name, configs) for name, each in rows.items() if each.checkpoint)
    corrected = (corrected_row(system, configs) for system in CHANGES)
    beyond = (beyond_row(name, configs) for name in configs.experiments if is_beyond(name))
    of_papers = [PUBLISHED, *published, CORRECTED, *corrected, RELEASED, *released]
    tables = [HEAD, *embedded, *of_papers, BEYOND, *beyond]
    print("".join([*tables, TAIL, *speed_rows(configs)]), end="")


def embedded_row(name: str, experiment: Experiment) -> str:
    what, measured = EMBEDDED[name]
    ranges = experiment.ranges("val").items()
    expected = ", ".join(
        f"{'' if metric == 'mean_iou' else NAMES[metric] + ' '}{low:g} to {high:g}"
        for metric, (low, high) in ranges
    )
    return f"| `{name}` | {what} | {expected or '-'} | {measured} |\n"


def row(name: str, experiment: Experiment, configs: Configs) -> str:
    """A row of a published table."""
    known = {split: of for split, of in experiment.published.items() if of}
    figures = "<br>".join(f"{split}: {shown(of)}" for split, of in known.items())
    figures = figures or "not published in a source we could read"
    ranges = "<br>".join(
        ", ".join(f"{low:g} to {high:g}" for low, high in experiment.ranges(split).values())
        for split in known
    )
    names = downloads_shown(name, configs)
    data = experiment.dataset
    why = "not measured: needs data, weights, a GPU"
    return f"| `{name}` | `{data}` | {figures} | {ranges} | {why} | {names} |\n"


def is_beyond(name: str) -> bool:
    return name.startswith("beyond_")


def beyond_row(name: str, configs: Configs) -> str:
    data, names = configs.experiments[name].dataset, downloads_shown(name, configs)
    return f"| `{name}` | `{data}` | not measured: needs data, weights, a GPU | {names} |\n"


def released_row(name: str, configs: Configs) -> str:
    dataset = configs.experiments[name].dataset
    return f"| `{name}` | `{dataset}` | {downloads_shown(name, configs)} |\n"


def corrected_row(system: str, configs: Configs) -> str:
    """The corrected rows of a system."""
    names = [
        f"`{name}`"
        for name, experiment in configs.experiments.items()
        if name.endswith("_corrected") and experiment.segmentor.model == system
    ]
    return f"| {system} | {CHANGES[system]} | {' '.join(names)} |\n"


def downloads_shown(name: str, configs: Configs) -> str:
    needed = downloads_of(files_of_experiment(name, configs), configs)
    return " ".join(f"`{download}`" for download in needed)


def shown(figures: Mapping[str, float]) -> str:
    return ", ".join(f"{NAMES[metric]} {value:g}" for metric, value in figures.items())


def speed_rows(configs: Configs) -> Iterator[str]:
    for training, speed, name, items in SPEED:
        experiment = configs.experiments[name]
        section = experiment.stage1 if "stage 1" in training else experiment.segmentor
        hours = f"{section.epochs * items / speed / 3600:.1f}"
        cells = (training, f"`{name}`", items, section.epochs, speed, hours)
        yield f"| {' | '.join(map(str, cells))} |\n"


if __name__ == "__main__":
    main()
