"""`snakemake --report`: our pages first, plain words, and one box for each rule."""

import html
import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import sync_playwright

from tests.conftest import Toy

pytestmark = pytest.mark.workflow
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("chrome")
STEPS = {
    "make_refshapes": "make refshapes",
    "train_stage1": "train stage1",
    "select_maps": "select maps x 2",
    "train_segmentor": "train segmentor x 2",
    "predict": "predict x 4",
    "make_report": "make report",
}


@pytest.fixture(scope="module")
def snakemake_report(finished_demo: Toy, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("report") / "workflow.html"
    done = finished_demo.snakemake(f"--report={path}", "demo")
    assert done.returncode == 0, done.stderr[-2000:]
    return path


def variable(page: str, name: str) -> Any:
    """The value of a variable that the report of Snakemake gives its scripts."""
    script = rf'<script id="{name.replace("_", "-")}">\s*var {name} = (.*);\s*</script>'
    match = re.search(script, page)
    assert match is not None, name
    return json.loads(match[1])


def test_the_report_of_snakemake_has_our_page_with_a_caption_and_no_raw_json(
    snakemake_report: Path, finished_demo: Toy
) -> None:
    page = snakemake_report.read_text()
    assert list(variable(page, "categories")) == ["Experiments"]
    (result,) = variable(page, "results").values()
    assert result["labels"] == {"experiment": "refshapes_tris"}
    assert "<strong>refshapes_tris</strong>: scores of every stage" in result["caption"]
    assert result["mime_type"] == "text/html"
    assert result["job_properties"]["params"] == ""
    overview = html.unescape(variable(page, "workflow_desc"))
    assert (finished_demo.experiment / "scores.txt").read_text() in overview


def test_the_report_of_snakemake_has_one_box_for_each_rule(
    snakemake_report: Path, finished_demo: Toy
) -> None:
    overview = html.unescape(variable(snakemake_report.read_text(), "workflow_desc"))
    titles = re.findall(r'<text x="8" y="16">(.+?)</text>', overview)
    links = re.findall(r'ruleinfo: "(\w+)"', overview)
    assert len(set(links)) == len(titles) == len(links) == 13  # of 42 jobs
    boxes = dict(zip(links, titles, strict=True))
    assert STEPS.items() <= boxes.items()
    rules = variable(snakemake_report.read_text(), "rules")
    assert boxes.keys() <= rules.keys()  # a click shows their code
    assert "not run here" not in overview


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here")
def test_the_page_opens_in_the_report_of_snakemake(snakemake_report: Path) -> None:
    """Chromium shows no data URL of more than 2 MB, as which Snakemake holds pages."""
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        page.set_default_timeout(10_000)
        errors: list[str] = []
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto(snakemake_report.as_uri(), wait_until="domcontentloaded")
        first = page.get_by_role("heading", name="Segmentation masks from text alone")
        assert first.bounding_box()["y"] >= 0  # type: ignore[index]
        graph = page.locator("#app #rulegraph")
        assert not graph.is_visible()
        page.get_by_label("Show Snakemake's graph").check()
        assert graph.is_visible()
        page.get_by_role("link", name="refshapes_tris").click()
        page.frame_locator("iframe").get_by_role("heading", name="refshapes_tris").wait_for()
        browser.close()
    assert errors == []
