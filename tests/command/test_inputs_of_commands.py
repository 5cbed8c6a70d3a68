"""Inputs as users have them, by the command (tests/cases)."""

import json
import shutil
from pathlib import Path

import pytest

from tests.command.conftest import Command
from tests.conftest import ROOT

CASES = ROOT / "tests/cases"


def test_several_pictures_are_pictures_and_no_expressions(
    risflow: Command, tmp_path: Path, model: Path
) -> None:
    first, second = (CASES / "predict_two_pictures" / name for name in ("a.jpg", "b.jpg"))
    options = ("--model", model, "--output", tmp_path / "o", "--json")
    for arguments in ((first, second, "star"), (first, "star", second)):
        done = risflow("predict", *arguments, *options)
        assert done.exit_code == 0, done.output
        records = json.loads(done.stdout)
        assert [(r["image"], r["expression"]) for r in records] == [
            (str(first), "star"),
            (str(second), "star"),
        ]
    done = risflow("predict", first, tmp_path / "c.jpg", "star", *options)
    assert done.exit_code == 1 and "c.jpg: no such image" in done.stderr
    assert [r["image"] for r in json.loads(done.stdout)] == [str(first)]
    assert risflow("predict", first, second, *options).exit_code == 2


@pytest.mark.parametrize("as_json", [True, False])
def test_one_broken_picture_keeps_no_other_from_its_answer(
    risflow: Command, tmp_path: Path, model: Path, as_json: bool
) -> None:
    folder = Path(shutil.copytree(CASES / "predict_one_broken", tmp_path / "case"))
    with (folder / "t.csv").open("a") as table:
        table.write('no.jpg,star\na.jpg,"star\nc.jpg,7\n')
    options = ["--model", model, "--output", tmp_path / "o", *(["--json"] if as_json else [])]
    done = risflow("predict", "--table", folder / "t.csv", *options)
    assert done.exit_code == 1
    errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    for place in ("b.jpg: not a readable image", "t.csv:5: image 'no.jpg'", "t.csv:6: a quote"):
        assert sum(place in line for line in errors) == 1, errors
    assert "t.csv:7: no letter in the expression" in done.stderr and len(errors) == 4
    if as_json:
        records = json.loads(done.stdout)
        assert [Path(record["image"]).name for record in records] == ["a.jpg", "c.jpg"]
    else:
        assert done.stdout.count(".mask.png") == 2
    assert len(list((tmp_path / "o").glob("*.mask.png"))) == 2


@pytest.mark.parametrize("name", ["import_html", "import_args_namespace"])
def test_what_is_no_checkpoint_is_named(risflow: Command, tmp_path: Path, name: str) -> None:
    out = tmp_path / "m.safetensors"
    done = risflow("import", CASES / name / "a.pth", "--system", "cris", "--out", out)
    assert done.exit_code == 1 and done.stderr.count("\n") == 1
    named = "a web page (HTML)" if name == "import_html" else "a pickle with argparse.Namespace"
    assert named in done.stderr and "\x1b" not in done.stderr and not out.exists()


def test_boxes_beside_pictures_are_no_expressions(
    risflow: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("configs", "workflow"):
        shutil.copytree(ROOT / name, tmp_path / name)
    folder = Path(shutil.copytree(CASES / "yolo_sidecars", tmp_path / "photos"))
    monkeypatch.chdir(tmp_path)
    done = risflow("new-dataset", folder)
    assert done.exit_code == 1 and "a.txt: holds YOLO boxes, no words" in done.stderr
    for text, message in (("cup\n12\n", "a.txt:2: no letter"), ("a\tb\n", "a.txt:1: a line break")):
        (folder / "a.txt").write_text(text)
        done = risflow("new-dataset", folder)
        assert done.exit_code == 1 and message in done.stderr, done.output
    assert not (folder / "expressions.csv").exists()
