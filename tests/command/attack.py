"""Hostile requests against a running page: `make attack`."""

import io
import json
import random
import re
import socket
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from PIL import Image

from tests.command.serving import QUICK, Server, call, upload

REQUESTS = 1000
PARALLEL = 8
LONGEST = 20  # seconds of a request
SECRET = "this file is not for visitors"
LEAK = re.compile(
    rf"{SECRET}|root:x:0|Traceback|\b[A-Z][a-z]\w*Error\b|has no attribute|site-packages"
)
EVENTS = (
    "queue/join",
    "call/find",
    "run/predict",
    "run/find",
    "api/find",
    "call/v2/find",
    "cancel",
)
JUNK: tuple[Any, ...] = (
    None,
    True,
    -1,
    1e308,
    "",
    "\ud800",
    "x" * 50_000,
    [],
    {},
    [[[]]],
    {"a": {}},
)


@dataclass
class Figures:
    """What an attack came to."""

    seconds: float = 0
    statuses: Counter[int] = field(default_factory=Counter)
    leaks: list[str] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)  # answers of 500, and none
    growth: int = 0  # bytes of memory from the first tenth to the end
    seconds_of_a_good_request: float = 0

    def __str__(self) -> str:
        statuses = ", ".join(
            f"{count} x {status}" for status, count in sorted(self.statuses.items())
        )
        return (
            f"{sum(self.statuses.values())} hostile requests in {self.seconds:.0f} s: {statuses}"
            f" (0: closed); {len(self.leaks)} leaks, {len(self.failures)} failures;"
            f" memory {self.growth / 1e6:+.0f} MB;"
            f" then a good request answered in {self.seconds_of_a_good_request:.1f} s"
        )


class Attacker:
    """Sends requests of all kinds, from a seed."""

    def __init__(self, server: Server, folder: Path) -> None:
        self.server, self.page = server, server.address
        self.secret = folder / "secret.png"
        self.secret.write_text(SECRET)
        self.folder = folder
        self.images = hostile_images()

    def request(self, number: int) -> tuple[int, str]:
        """Status and text of the answer to one request; 0 for a closed connection."""
        draw = random.Random(number)
        kinds: tuple[Callable[[random.Random], tuple[int, str]], ...] = (
            self.read_file,
            self.name_file,
            self.pretend,
            self.send_junk,
            self.send_image,
            self.leave,
            self.break_protocol,
        )
        return kinds[number % len(kinds)](draw)

    def send(self, method: str, path: str, **options: Any) -> tuple[int, str]:
        with httpx.Client(timeout=LONGEST, **QUICK) as client:
            url = httpx.URL(self.page).copy_with(raw_path=path.encode(errors="replace"))
            reply = client.request(method, url, **options)
            return reply.status_code, reply.text

    def paths(self) -> tuple[str, ...]:
        places = (str(self.secret), "/etc/passwd", "/proc/self/environ", f"file://{self.secret}")
        above = "/uploads/" + "../" * 12
        return (*places, *(above + place.lstrip("/") for place in places), str(self.server.log))

    def read_file(self, draw: random.Random) -> tuple[int, str]:
        path = draw.choice(self.paths())
        before = ("/gradio_api/file=", "/file=", "/gradio_api/file/", "/assets/..", "/static/../..")
        before += ("/svelte/..%2f..%2f..", "/drawn/..%2f..", "/gradio_api/proxy=", "/theme.css?")
        return self.send(draw.choice(("GET", "HEAD", "POST")), draw.choice(before) + path)

    def name_file(self, draw: random.Random) -> tuple[int, str]:
        file = {"path": draw.choice(self.paths()), "meta": {"_type": "gradio.FileData"}}
        data = draw.choice(([file, "x", ["tris"]], [[[file]], "x", ["tris"]], [{"a": file}]))
        content = {"data": data, "fn_index": draw.randrange(3), "session_hash": f"s{draw.random()}"}
        return self.send("POST", f"/gradio_api/{draw.choice(EVENTS)}", json=content)

    def pretend(self, draw: random.Random) -> tuple[int, str]:
        headers = draw.choice(
            (
                {"host": "evil.example"},
                {"origin": "https://evil.example"},
                {"origin": "null"},
                {"x-forwarded-host": "evil.example", "x-forwarded-proto": "x"},
                {"authorization": "Basic " + "A" * 5000},
                {"cookie": "x=" + "y" * 5000},
                {"content-length": "0", "accept-encoding": "br"},
            )
        )
        path = draw.choice(
            ("/", "/config", "/gradio_api/info", "/gradio_api/upload", "/monitoring")
        )
        return self.send(draw.choice(("GET", "POST", "PUT", "OPTIONS")), path, headers=headers)

    def send_junk(self, draw: random.Random) -> tuple[int, str]:
        keys = (
            "data",
            "fn_index",
            "session_hash",
            "event_data",
            "batched",
            "trigger_id",
            "event_id",
        )
        content: Any = {key: draw.choice(JUNK) for key in keys if draw.random() < 0.6}
        if draw.random() < 0.5:
            content = {"data": [draw.choice(JUNK) for _ in range(4)], "session_hash": "junk"}
            content["fn_index"] = draw.randrange(4)
        body = draw.choice((json.dumps(content).encode(), draw.randbytes(300), b"[" * 90_000))
        return self.send("POST", f"/gradio_api/{draw.choice(EVENTS)}", content=body)

    def send_image(self, draw: random.Random) -> tuple[int, str]:
        name = draw.choice(sorted(self.images))
        shown = draw.choice((name, "a.png", "../../a.png", "a" * 300 + ".png", "\x00.png"))
        path = upload(self.page, self.images[name] + draw.randbytes(4), shown)
        if not path.startswith("/uploads/"):
            return 503, path
        return 200, call(self.page, [{"path": path}, "a red square", ["tris"]], timeout=LONGEST)

    def leave(self, draw: random.Random) -> tuple[int, str]:
        """Ask and never fetch, or listen for nothing."""
        session = f"s{draw.randrange(10**9)}"
        if draw.random() < 0.5:
            content = {"data": [None, "x", ["tris"], 0], "fn_index": 1, "session_hash": session}
            return self.send("POST", "/gradio_api/queue/join", json=content)
        return self.send("GET", f"/gradio_api/queue/data?session_hash={session}")

    def break_protocol(self, draw: random.Random) -> tuple[int, str]:
        lines = (
            draw.randbytes(200),
            b"GET / HTTP/1.1\r\n\r\n",
            b"GET / HTTP/1.1\r\nhost: localhost\r\nhost: evil.example\r\n\r\n",
            b"POST /gradio_api/upload HTTP/1.1\r\nhost: localhost\r\ncontent-length: 9\r\n\r\n",
            b"POST /gradio_api/call/find HTTP/1.1\r\nhost: localhost\r\ncontent-length: 9\r\n\r\n{",
            b"GET /" + b"a" * 70_000 + b" HTTP/1.1\r\nhost: localhost\r\n\r\n",
            b"GET /gradio_api/heartbeat/a HTTP/1.1\r\nhost: localhost\r\n\r\n",
        )
        address = httpx.URL(self.page)
        with socket.create_connection(
            (address.host, address.port or 80), timeout=0.5
        ) as connection:
            try:
                connection.sendall(draw.choice(lines))
                reply = connection.recv(10_000).decode(errors="replace")
            except OSError:  # closed, or waiting for more
                return 0, ""
        status = re.match(r"HTTP/1.1 (\d+)", reply)
        return int(status[1]) if status else 0, reply


def hostile_images() -> dict[str, bytes]:
    """Images of formats that are not taken, of too many pixels, and broken ones."""
    images = {"eps": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n{ } loop\n"}
    for ending, size in (("ico", (256, 256)), ("icns", (64, 64)), ("png", (9000, 9000))):
        content = io.BytesIO()
        Image.new("L" if ending == "png" else "RGB", size).save(content, ending)
        images[ending] = content.getvalue()
    content = io.BytesIO()
    Image.effect_noise((300, 200), 50).save(content, "tiff")
    images["tiff"] = content.getvalue()[:-3000]
    images["gif"], images["text"] = b"GIF89a" + bytes(50), b"no image"
    return images


def attack(server: Server, folder: Path) -> Figures:
    """Send all requests; the page is in use before and after."""
    content = io.BytesIO()
    Image.new("RGB", (60, 40), (200, 0, 0)).save(content, "png")

    def good() -> str:
        path = upload(server.address, content.getvalue())
        return call(server.address, [{"path": path}, "a red square", ["tris"]])

    good()
    figures, attacker = Figures(), Attacker(server, folder)
    places = (str(server.uploads), str(folder))

    def one(number: int) -> None:
        try:
            status, text = attacker.request(number)
        except httpx.HTTPStatusError as error:
            status, text = error.response.status_code, error.response.text
        except httpx.TimeoutException:
            figures.failures.append(f"{number}: no answer in {LONGEST} s")
            return
        except (httpx.HTTPError, OSError):  # closed
            status, text = 0, ""
        figures.statuses[status] += 1
        if status >= 500 and status != 503:
            figures.failures.append(f"{number}: {status} {text[:200]}")
        if LEAK.search(text) or any(place in text for place in places):
            figures.leaks.append(f"{number}: {text[:300]}")

    start = time.monotonic()
    with ThreadPoolExecutor(PARALLEL) as pool:
        list(pool.map(one, range(REQUESTS // 10)))
        before = server.memory
        list(pool.map(one, range(REQUESTS // 10, REQUESTS)))
    figures.seconds = time.monotonic() - start
    start = time.monotonic()
    if "drawn/" not in good():
        figures.failures.append("the good request was not answered")
    figures.seconds_of_a_good_request = time.monotonic() - start
    figures.growth = server.memory - before
    return figures
