"""The endpoints of the Hugging Face hub that are used here, on this machine, for one account."""

import base64
import hashlib
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tests.file_server import running

TOKEN = "hf_writes"  # of the account `me`
PLACE = re.compile(r"/([\w.-]+/[\w.-]+)/resolve/([^/]+)/(.+)")


@dataclass
class Repository:
    """The files of the branch main, and the commits so far."""

    private: bool = False
    gated: bool = False
    files: dict[str, bytes] = field(default_factory=dict)
    large: set[str] = field(default_factory=set)  # of LFS
    commits: int = 0

    @property
    def commit(self) -> str:
        return hashlib.sha1(str(self.commits).encode()).hexdigest()


class Hub(ThreadingHTTPServer):
    """Repositories by name; large files are uploaded and downloaded apart, as by LFS."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.repositories: dict[str, Repository] = {}
        self.objects: dict[str, bytes] = {}
        self.asked: list[str] = []

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def put(self, name: str, file: str, content: bytes, **options: bool) -> None:
        """A file that somebody else has uploaded."""
        repository = self.repositories.setdefault(name, Repository(**options))
        repository.files[file] = content
        repository.large.add(file)
        repository.commits += 1


def mode_of(path: str) -> str:
    """How a file is uploaded."""
    return "lfs" if path.endswith(".safetensors") else "regular"


class Handler(BaseHTTPRequestHandler):
    server: Hub

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        if self.path.startswith("/objects/"):
            self._content(self.server.objects[self.path.rpartition("/")[2]])
        elif self.path.startswith("/api/models/"):
            name = self.path.removeprefix("/api/models/")
            repository = self._readable(name)
            if repository is not None:
                about = {"id": name, "private": repository.private, "sha": repository.commit}
                self._json({**about, "siblings": [{"rfilename": f} for f in repository.files]})
        else:
            self._file()

    def do_PUT(self) -> None:
        self.server.objects[self.path.rpartition("/")[2]] = self._body()
        self._json({})

    def do_POST(self) -> None:
        self.server.asked.append(f"POST {self.path}")
        body = self._body()
        if self.path == "/api/validate-yaml":
            self._json({"errors": [], "warnings": []})
        elif self.headers.get("Authorization") != f"Bearer {TOKEN}":
            self._refuse(401)
        elif self.path == "/api/repos/create":
            self._create(json.loads(body))
        elif self.path.endswith("/preupload/main"):
            paths = [file["path"] for file in json.loads(body)["files"]]
            files = [{"path": path, "uploadMode": mode_of(path)} for path in paths]
            self._json({"files": [{**file, "shouldIgnore": False} for file in files]})
        elif self.path.endswith(".git/info/lfs/objects/batch"):
            self._lfs(json.loads(body)["objects"])
        elif match := re.fullmatch(r"/api/models/([^/]+/[^/]+)/commit/main", self.path):
            self._commit(match[1], [json.loads(line) for line in body.splitlines()])
        else:
            self._refuse(404)

    def _create(self, wanted: dict[str, Any]) -> None:
        owner = wanted.get("organization", "me")
        name = f"{owner}/{wanted['name']}"
        if owner != "me":
            self._refuse(403)
        elif name in self.server.repositories:
            self._json({"url": f"{self.server.address}/{name}"}, 409)
        else:
            is_private = wanted.get("private") or wanted.get("visibility") == "private"
            self.server.repositories[name] = Repository(bool(is_private))
            self._json({"url": f"{self.server.address}/{name}"})

    def _lfs(self, wanted: list[dict[str, Any]]) -> None:
        objects = [
            {
                **item,
                "actions": {"upload": {"href": f"{self.server.address}/objects/{item['oid']}"}},
            }
            for item in wanted
        ]
        self._json({"transfer": "basic", "objects": objects})

    def _commit(self, name: str, lines: list[dict[str, Any]]) -> None:
        repository = self.server.repositories[name]
        for line in lines:
            value = line["value"]
            if line["key"] == "file":
                repository.files[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                repository.files[value["path"]] = self.server.objects[value["oid"]]
                repository.large.add(value["path"])
        repository.commits += 1
        url = f"{self.server.address}/{name}/commit/{repository.commit}"
        self._json({"success": True, "commitOid": repository.commit, "commitUrl": url})

    def _readable(self, name: str) -> Repository | None:
        """The repository, unless it has to be refused."""
        repository = self.server.repositories.get(name)
        has_token = self.headers.get("Authorization") == f"Bearer {TOKEN}"
        if repository is None or (repository.private and not has_token):
            self._refuse(401, "RepoNotFound")
        elif repository.gated and not has_token:
            self._refuse(403, "GatedRepo")
        else:
            return repository
        return None

    def _file(self) -> None:
        self.server.asked.append(f"{self.command} {self.path}")
        match = PLACE.fullmatch(self.path)
        if match is None:
            self._refuse(404)
            return
        repository = self._readable(match[1])
        if repository is None:
            return
        if match[2] not in ("main", repository.commit):
            self._refuse(404, "RevisionNotFound")
            return
        content = repository.files.get(match[3])
        commit = {"X-Repo-Commit": repository.commit}
        if content is None:
            self._refuse(404, "EntryNotFound", commit)
        elif match[3] in repository.large:
            identity = hashlib.sha256(content).hexdigest()
            self.server.objects[identity] = content
            linked = {"X-Linked-Etag": f'"{identity}"', "X-Linked-Size": str(len(content))}
            # On another host, which is not asked for its headers.
            place = f"http://localhost:{self.server.server_address[1]}/objects/{identity}"
            self.send_response(302)
            self._headers({**commit, **linked, "Location": place}, 0)
        else:
            identity = hashlib.sha1(content).hexdigest()
            self._content(content, {**commit, "ETag": f'"{identity}"'})

    def _content(self, content: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(200)
        self._headers(headers or {}, len(content))
        if self.command != "HEAD":
            self.wfile.write(content)

    def _refuse(self, status: int, code: str = "", headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        self._headers({**(headers or {}), **({"X-Error-Code": code} if code else {})}, 0)

    def _json(self, value: Any, status: int = 200) -> None:
        content = json.dumps(value).encode()
        self.send_response(status)
        self._headers({"Content-Type": "application/json"}, len(content))
        self.wfile.write(content)

    def _headers(self, headers: dict[str, str], length: int) -> None:
        for name, value in {**headers, "Content-Length": str(length)}.items():
            self.send_header(name, value)
        self.end_headers()

    def _body(self) -> bytes:
        if "Content-Length" in self.headers:
            return self.rfile.read(int(self.headers["Content-Length"]))
        parts = []  # chunked
        while size := int(self.rfile.readline(), 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)

    def log_message(self, *_: Any) -> None:
        pass


@contextmanager
def hub() -> Iterator[Hub]:
    with running(Hub()) as server:
        yield server
