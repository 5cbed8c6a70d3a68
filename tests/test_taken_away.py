"""Masks for other tools and images of every expression, as the workflow makes them."""

import json
import re
from pathlib import Path

import pytest
from pycocotools.coco import COCO

from stages.data.refer import load_plain
from stages.storage.tables import read_samples
from tests.conftest import Toy

pytestmark = pytest.mark.workflow

TRIS = "experiments/refshapes_tris.yaml"


@pytest.fixture
def changed(toy: Toy) -> Toy:
    """The finished demo, whose experiment asks for masks and images."""
    path = toy.configs / TRIS
    before = path.read_text()
    yield toy
    path.write_text(before)
    if toy.planned():
        toy.snakemake("demo")  # the links and the page as they were


def test_masks_are_a_target(changed: Toy) -> None:
    done = changed.snakemake("masks_refshapes_tris")
    assert done.returncode != 0
    assert 'the experiment asks for no format; name one, for once: --config set="' in done.stderr
    changed.edit(TRIS, masks={"formats": ["coco"], "stages": ["labels"], "splits": ["testA"]})
    making = {"select_maps", "make_labels", "write_masks"}  # of a split that is new
    target = "masks_refshapes_tris"
    assert changed.planned(target) - {target} == {*making, "link_results"}


@pytest.mark.slow
def test_the_page_links_to_masks_and_images(changed: Toy) -> None:
    stages = ["pseudo_masks", "labels"]
    changed.edit(TRIS, masks={"formats": ["coco", "refer"], "stages": stages, "splits": ["testA"]})
    target = "masks_refshapes_tris"
    done = changed.snakemake(target)
    assert done.returncode == 0, done.stderr[-3000:]
    assert changed.planned(target) == set()
    folder = changed.experiment / "masks"
    names = {f"{stage}-{kind}" for stage in stages for kind in ("coco", "refer")}
    assert {path.name for path in folder.iterdir()} == names
    objects = read_samples(changed.samples).split("testA").objects
    record = json.loads((folder / "labels-coco/masks-testA.json").read_text())
    assert record["masks"] == len(objects)
    opened = COCO(folder / "labels-coco/testA/instances.json")
    assert len(opened.anns) == record["masks"] - record["empty"]
    refs = load_plain((folder / "pseudo_masks-refer/testA/refs(risflow).p").read_bytes())
    assert {ref["split"] for ref in refs} <= {"testA"}

    changed.edit(TRIS, visualize="all")
    assert changed.planned() == {"visualize", "link_results", "make_report"}
    done = changed.snakemake("demo")
    assert done.returncode == 0, done.stderr[-3000:]
    warnings = [line for line in done.stderr.splitlines() if line.startswith("warning: ")]
    assert any("steps of training: hardly more than the initial" in line for line in warnings)
    scores = (changed.experiment / "scores.txt").read_text()
    assert {line for line in scores.splitlines() if line.startswith("warning: ")} == set(warnings)
    page = (changed.experiment / "report.html").read_text()
    links = [link for link in re.findall(r'href="([^"#]+)"', page)]
    assert sorted(links) == sorted([*(f"masks/{name}/testA/" for name in names), "visualized/val/"])
    assert all((changed.experiment / link).is_dir() for link in links)
    drawn = list(Path(changed.experiment, "visualized/val").glob("*/*.response.png"))
    assert len(drawn) == len(read_samples(changed.samples).split("val").expressions)


def test_an_experiment_without_masks_of_a_stage_refuses_it(changed: Toy) -> None:
    changed.edit(TRIS, supervision="masks", masks={"formats": ["coco"], "stages": ["labels"]})
    done = changed.snakemake("--dry-run", "demo")
    assert done.returncode != 0
    assert "masks.stages: labels, which this experiment does not make" in done.stderr + done.stdout
