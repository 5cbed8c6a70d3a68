"""The page under load, and its end."""

import io
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from PIL import Image

from tests.command.attack import attack
from tests.command.serving import Server, call, end, serving, upload

pytest.importorskip("gradio", reason="gradio is not installed ([serve])")

PARALLEL = 12
ALLOWED = 600_000_000  # bytes beside what one small request needs


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("load"), ("tris",)) as started:
        yield started


def encoded(size: tuple[int, int]) -> bytes:
    content = io.BytesIO()
    Image.new("RGB", size, (200, 30, 40)).save(content, "png")
    return content.getvalue()


@pytest.mark.long
def test_parallel_posts_stay_within_a_memory_limit(server: Server) -> None:
    page = server.address
    small = [{"path": upload(page, encoded((60, 40)))}, "a red square", ["tris"]]
    assert "drawn/" in call(page, small)
    before = server.memory
    large = [{"path": upload(page, encoded((4400, 4400)))}, "a\nb", ["tris"]]

    def post(number: int) -> bool:
        if number % 2:
            return "drawn/" in call(page, large, timeout=300)
        address = f"{page}/gradio_api/run/find"  # the route that passes gradio's queue by
        return httpx.post(address, json={"data": large}, timeout=300).status_code == 404

    with ThreadPoolExecutor(PARALLEL) as pool:
        assert all(pool.map(post, range(PARALLEL)))
    peak, kept = server.peak - before, server.memory - before
    print(f"peak {peak / 1e6:+.0f} MB, kept {kept / 1e6:+.0f} MB")
    assert peak < ALLOWED and kept < ALLOWED / 2


@pytest.mark.slow
def test_hostile_requests_read_nothing_and_change_nothing(server: Server, tmp_path: Path) -> None:
    figures = attack(server, tmp_path)
    print(figures)
    assert not figures.leaks and not figures.failures
    assert figures.growth < 100_000_000
    assert server.process.poll() is None


def test_sigterm_ends_it_with_a_page_open(server: Server) -> None:
    before = len(server.log.read_text())
    stream = f"{server.address}/gradio_api/heartbeat/abc"
    with httpx.stream("GET", stream, timeout=60) as open_page:
        assert next(open_page.iter_lines()) == "data: ALIVE"
        end(server.process, signal.SIGTERM)
    assert server.process.returncode == 130
    assert "Traceback" not in server.log.read_text()[before:]
