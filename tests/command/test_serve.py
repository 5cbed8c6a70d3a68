"""The page, over HTTP as a browser uses it."""

import io
import json
import os
import re
import shutil
import socket
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image

from risflow.predict.model import Model
from risflow.serve.server import load_models
from tests.command.conftest import Command
from tests.command.serving import Server, call, serving, upload
from tests.conftest import ROOT

gradio_client = pytest.importorskip("gradio_client", reason="gradio is not installed ([serve])")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("chrome")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the server is started."""
    return tmp_path_factory.mktemp("serve")


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[Server]:
    """A page with two models; the server must still be there at the end."""
    with serving(folder, ("tris", "cris")) as started:
        yield started
        assert started.process.poll() is None, started.log.read_text()


@pytest.fixture(scope="module")
def page(server: Server) -> str:
    return server.address


@pytest.fixture(scope="module")
def uploads(server: Server) -> Path:
    """The folder into which the running server puts uploads."""
    return server.uploads


@pytest.fixture
def find(page: str) -> Iterator[Any]:
    """Asks the page like its button does."""
    client = gradio_client.Client(page, verbose=False, analytics_enabled=False)

    def ask(
        image_file: Path | None,
        text: str,
        models: tuple[str, ...] = ("tris", "cris"),
        threshold: object = 0,
    ) -> str:
        file = None if image_file is None else gradio_client.handle_file(str(image_file))
        return str(client.predict(file, text, list(models), threshold, api_name="/find"))

    yield ask
    client.close()


def test_its_health_is_told(page: str) -> None:
    reply = httpx.get(f"{page}/health")
    assert reply.json() == {"status": "ok", "models": ["tris", "cris"]}


def test_every_model_predicts_every_expression(find: Any, image_file: Path) -> None:
    reply = find(image_file, "the red square\n\n <b>bold</b> \n")
    assert reply.count('<div class="prediction">') == 2
    assert reply.count('<img src="drawn/') == 2 * 2 * 3
    assert "&lt;b&gt;bold" in reply and "<b>" not in reply
    assert find(image_file, "x", ("cris",)).count("<img ") == 3
    assert reply.count("not known to the model: b, bold") == 2


def test_the_page_says_what_its_models_know(page: str) -> None:
    config = httpx.get(f"{page}/config").json()
    texts = [str(each["props"].get("value")) for each in config["components"]]
    for name in ("tris", "cris"):
        limits = "knows drawn shapes and 56 words only: no photographs, no other words"
        assert f"{name}: {name}; {limits}" in texts


def test_a_model_of_the_workflow_names_what_it_was_trained_on(
    tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page_of = pytest.importorskip("risflow.serve.page")
    monkeypatch.chdir(ROOT)
    place = tmp_path / "work/segmentor/refshapes-0123456789ab"
    place.mkdir(parents=True)
    shutil.copy(model, place / "model.safetensors")
    (tmp_path / "link").symlink_to(place)
    described = page_of.describe_model(Model(tmp_path / "link/model.safetensors", "cpu"))
    assert described == "tris, trained on refshapes"
    results = tmp_path / "results/mine"
    results.mkdir(parents=True)
    (results / "segmentor").symlink_to(place)
    assert list(load_models([results / "segmentor/model.safetensors"])) == ["mine"]


def test_a_threshold_changes_masks_and_a_mask_can_be_downloaded(
    find: Any, page: str, image_file: Path
) -> None:
    areas = []
    for threshold in (-10, 0, 10):
        reply = find(image_file, "a ring", ("tris",), threshold)
        (area,) = re.findall(r"([\d.]+) % of the image", reply)
        areas.append(float(area))
        (name,) = re.findall(r'<a href="(drawn/[^"]+)" download="mask.png">', reply)
        content = httpx.get(f"{page}/{name}").content
        with Image.open(io.BytesIO(content)) as mask, Image.open(image_file) as image:
            assert mask.size == image.size
            assert 100 * np.asarray(mask).mean() / 255 == pytest.approx(float(area), abs=0.06)
    assert areas[0] == 100 > areas[1] > areas[2] == 0
    for wrong in ("1", 10.1, [0]):
        reply = find(image_file, "x", ("tris",), wrong)
        assert "the threshold is no number from -10 to 10" in reply


def test_bad_input_is_a_message_and_the_page_goes_on(
    find: Any, image_file: Path, tmp_path: Path
) -> None:
    large = tmp_path / "large.png"
    Image.new("L", (6000, 4000)).save(large)
    cut = tmp_path / "cut.png"
    cut.write_bytes(image_file.read_bytes()[:-60])
    for arguments, message in (
        ((None, "x"), "no image"),
        ((image_file, " \n"), "no expression"),
        ((image_file, "x" * 10_000), "10,000 characters"),
        ((image_file, "x\n" * 11), "11 expressions; at most 10"),
        ((image_file, "x", ()), "no model is chosen"),
        ((large, "x"), "6000 x 4000 is 24 megapixels; at most 20"),
        ((cut, "x"), "not a readable image"),
    ):
        reply = find(*arguments)
        assert reply.startswith('<p class="wrong">') and message in reply
        assert str(tmp_path) not in reply and "/uploads/" not in reply
    text = tmp_path / "text.png"
    text.write_text("no picture")
    assert "not a readable image" in find(text, "x")
    assert "drawn/" in find(image_file, "x")


EVENTS = ("call/find", "queue/join")


@pytest.fixture(scope="module")
def post(page: str) -> Callable[..., httpx.Response]:
    """Asks about an image, past the page's own code."""
    functions = httpx.get(f"{page}/config").json()["dependencies"]
    index = next(function["id"] for function in functions if function["api_name"] == "find")

    def ask(event: str, image_file: Any, timeout: float = 60) -> httpx.Response:
        request = {"data": [image_file, "x", ["tris"], 0], "fn_index": index, "session_hash": "abc"}
        headers = {"content-type": "application/json"}
        content = json.dumps(request)  # unlike httpx, which sends no half characters
        address = f"{page}/gradio_api/{event}"
        return httpx.post(address, content=content, headers=headers, timeout=timeout)

    return ask


@pytest.mark.parametrize("event", EVENTS)
@pytest.mark.parametrize("meta", [True, False])
def test_files_that_were_not_uploaded_are_refused_alike(
    page: str, post: Any, image_file: Path, tmp_path: Path, uploads: Path, event: str, meta: bool
) -> None:
    pipe, link = tmp_path / "pipe", uploads / f"link {event} {meta}".replace("/", " ")
    os.mkfifo(pipe)
    link.symlink_to(image_file)
    inside = uploads / link.name.replace("link", "pipe")
    os.mkfifo(inside)
    uploaded = upload(page, image_file.read_bytes(), image_file.name)
    files = set(uploads.rglob("*"))
    paths: list[Any] = [str(image_file), str(pipe), str(inside), str(link), str(uploads)]
    paths += ["/etc/shadow", "/etc/passwd", "/etc/none", "/proc/self/environ", "/dev/stdin", ""]
    paths += [str(uploads) + uploaded.removeprefix("/uploads")]  # its real path
    paths += [f"/uploads/{inside.name}", f"/uploads/{link.name}", "/uploads", "/uploads/"]
    paths += [f"/uploads/../../{image_file.name}", f"/uploads/./{Path(uploaded).name}", "a.png"]
    paths += [
        uploaded.replace("/", "//"),
        f"{uploaded}\0",
        f"/uploads/{'x' * 5000}",
        f"{page}/health",
    ]
    paths += [f"file://{image_file}", "\ud800", 7, [uploaded], {"path": str(image_file)}, True]
    replies = set()
    for path in paths:
        file = {"path": path, **({"meta": {"_type": "gradio.FileData"}} if meta else {})}
        response = post(event, file, timeout=10)
        replies.add((response.status_code, response.text))
    message = "image: not uploaded to this page, or deleted since; upload it again"
    assert replies == {(403, f'{{"detail":"{message}"}}')}
    assert set(uploads.rglob("*")) == files  # nothing was copied to where it can be fetched
    assert post(event, {"path": uploaded, "meta": {"_type": "gradio.FileData"}}).is_success
    inside.unlink()
    link.unlink()


def test_a_path_hidden_deeper_in_a_request_is_refused(page: str, image_file: Path) -> None:
    hidden = {"path": str(image_file), "meta": {"_type": "gradio.FileData"}}
    for request in (
        {"data": [None, "x", ["tris"]], "event_data": {"a": [[hidden]]}},
        {"data": [{"value": hidden}, "x", ["tris"]]},
        {"data": [None, hidden, ["tris"]]},
        [hidden],
    ):
        for event in EVENTS:
            assert httpx.post(f"{page}/gradio_api/{event}", json=request).status_code == 403


def test_what_is_no_request_is_told_and_the_page_goes_on(
    find: Any, page: str, image_file: Path
) -> None:
    for body, status in (
        (b"{", 400),
        (b"\xff\xfe", 400),
        (b"[" * 100_000, 400),
        (b" " * 100_001, 413),
        (b"{}", 422),
        (b'{"data": []}', 422),
        (b'{"data": [7, "x", ["tris"], 0]}', 422),
        (b'{"data": ["/etc/passwd", "x", ["tris"], 0]}', 422),
    ):
        response = httpx.post(f"{page}/gradio_api/call/find", content=body)
        assert response.status_code == status, response.text
    assert "drawn/" not in call(page, [{}, "x", ["tris"]])
    path = upload(page, image_file.read_bytes())
    for text, names in ((7, ["tris"]), (None, ["tris"]), ("x", "tris"), ("x", [["tris"]])):
        assert '<p class=\\"wrong\\">' in call(page, [{"path": path}, text, names])
    assert "drawn/" in find(image_file, "x")


def test_routes_that_the_page_does_not_use_are_not_there(page: str, image_file: Path) -> None:
    for path in (
        "monitoring",
        "monitoring/summary",
        "openapi.json",
        "gradio_api/openapi.json",
        "docs",
        f"gradio_api/proxy={page}/health",
        f"gradio_api/file/{image_file}",
        "gradio_api/deep_link",
        "gradio_api/custom_component/1/client/component/a.js",
    ):
        assert httpx.get(f"{page}/{path}").status_code == 404, path
    for path in (
        "component_server",
        "call/v2/find",
        "api/find",
        "run/find",
        "cancel",
    ):
        path = f"gradio_api/{path}"
        assert httpx.post(f"{page}/{path}", json={"data": []}).status_code == 404, path
    for path in (str(image_file), "/etc/passwd", f"{page}/health", "data/small_clip.json"):
        assert httpx.get(f"{page}/gradio_api/file={path}").status_code == 403
    path = upload(page, image_file.read_bytes(), image_file.name)
    assert httpx.get(f"{page}/gradio_api/file={path}").content == image_file.read_bytes()


def test_only_an_example_passes_the_queue_by(page: str, post: Any) -> None:
    address = f"{page}/gradio_api/run/predict"
    functions = httpx.get(f"{page}/config").json()["dependencies"]
    for function in functions:
        event = {"data": [0], "fn_index": function["id"], "session_hash": "abc"}
        status = httpx.post(address, json=event).status_code
        assert status == (404 if function["api_name"] == "find" else 200)
        for wrong in ({"data": [99]}, {"data": []}, {"data": ["x"]}, {"fn_index": 99}):
            assert httpx.post(address, json=event | wrong).status_code == 422


def test_no_answer_tells_where_files_are(page: str, image_file: Path, uploads: Path) -> None:
    path = upload(page, image_file.read_bytes())
    replies = [httpx.get(f"{page}/{place}").text for place in ("", "config", "gradio_api/info")]
    replies.append(call(page, [{"path": path}, "x", ["tris"]]))
    assert path.startswith("/uploads/") and "/uploads/" in replies[1]  # of the examples
    assert not any(str(uploads.parent) in reply for reply in replies)


def test_an_upload_has_a_limit(page: str) -> None:
    content = b"0" * 21_000_000
    reply = httpx.post(f"{page}/gradio_api/upload", files={"files": ("a.png", content)}, timeout=60)
    assert reply.status_code == 413


def test_without_gradio_it_says_how_to_get_it(
    risflow: Command, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "gradio", None)
    done = risflow("serve", "--model", model)
    assert done.exit_code == 1 and "pip install 'risflow[serve]'" in done.stderr


def test_a_taken_port_and_a_wrong_address_are_one_line(risflow: Command, model: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = risflow("serve", "--model", model, "--port", port)
    assert done.exit_code == 1
    assert f"127.0.0.1:{port}: Address already in use; name another with --port" in done.stderr
    done = risflow("serve", "--model", model, "--host", "192.0.2.1", "--port", "0")
    assert done.exit_code == 1 and "192.0.2.1:0: Cannot assign requested" in done.stderr
    done = risflow("serve", "--model", model.parent / "none")
    assert done.exit_code == 1 and "no such file" in done.stderr


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed")
@pytest.mark.parametrize("width", [1280, 390])
def test_a_click_in_a_browser_shows_masks_and_asks_nobody_else(
    page: str, image_file: Path, width: int
) -> None:
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    asked, wrong = set(), []
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        tab = browser.new_page(viewport={"width": width, "height": 900})
        tab.set_default_timeout(60_000)
        tab.on("request", lambda request: asked.add(request.url))
        tab.on("pageerror", lambda error: wrong.append(str(error)))
        tab.goto(page)
        tab.set_input_files("input[type=file]", image_file)
        tab.fill("#expressions textarea", "the red square\na ring")
        tab.wait_for_selector("img[src*='a_photo'], img[src*='a%20photo'], .image-frame img")
        tab.click("#find")
        tab.wait_for_selector(".prediction img")
        assert tab.locator(".prediction img").count() == 2 * 2 * 3
        loaded = "[...document.querySelectorAll('.prediction img')].every(i => i.naturalWidth > 0)"
        tab.wait_for_function(loaded)
        boxes = [tab.locator(".prediction img").nth(n).bounding_box() for n in range(3)]
        rows = 1 if width > 600 else 3  # stacked on a phone
        assert len({box["y"] for box in boxes}) == rows
        assert all(box["x"] > 0 and box["x"] + box["width"] <= width for box in boxes)
        assert tab.evaluate("document.documentElement.scrollWidth") <= width
        tab.fill("#expressions textarea", " ")
        tab.click("#find")
        tab.wait_for_selector(".wrong")
        tab.click("tr.tr-body >> nth=0")  # an example
        tab.wait_for_function("document.querySelector('#expressions textarea').value.length > 3")
        tab.wait_for_selector(".image-frame img:not([src*='photo'])")
        tab.click("#find")
        tab.wait_for_selector(".prediction img")
        browser.close()
    assert not wrong
    elsewhere = {url for url in asked if not url.startswith((page, "data:", "blob:"))}
    assert not elsewhere
