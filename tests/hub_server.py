"""A small Hub on 127.0.0.1 that speaks what huggingface_hub's client needs for models: metadata,
files, repositories, and commits with small files inside them and large ones by the LFS protocol."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import yaml

TOKEN = "hf_test_writer"
READER = "hf_test_reader"


@dataclass
class Repository:
    """Its commits, oldest first: (id, {file name: content}), and tags."""

    private: bool = False
    commits: list[tuple[str, dict[str, bytes]]] = field(default_factory=list)
    tags: dict[str, str] = field(default_factory=dict)

    def commit(self, files: dict[str, bytes]) -> str:
        seed = repr((len(self.commits), sorted(files), *files.values())).encode()
        self.commits.append((hashlib.sha1(seed).hexdigest(), files))
        return self.commits[-1][0]

    def at(self, revision: str) -> tuple[str, dict[str, bytes]] | None:
        wanted = self.tags.get(revision, revision)
        if wanted == "main":
            return self.commits[-1]
        return next((c for c in self.commits if c[0] == wanted), None)


class Hub(ThreadingHTTPServer):
    """Run with `with Hub() as hub:`; `hub.url` is its endpoint."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.repositories: dict[str, Repository] = {}
        self.large: dict[str, bytes] = {}  # by SHA-256
        self.damaged: set[str] = set()  # names of files that are served with a byte changed
        self.status: int | None = None  # every answer has this status
        self.delay = 0.0  # seconds before every answer
        self.requests: list[str] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def __enter__(self) -> Hub:
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.delay = 0.0
        self.shutdown()
        self.server_close()


def is_large(name: str) -> bool:
    return name.endswith((".safetensors", ".onnx"))


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Hub

    def log_message(self, *_: object) -> None:
        pass

    def answer(self, status: int, body: Any = None, **headers: str) -> None:
        content = body if isinstance(body, bytes) else json.dumps(body or {}).encode()
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def refuse(self, status: int, code: str, message: str) -> None:
        self.answer(status, {"error": message}, X_Error_Code=code, X_Error_Message=message)

    def token(self) -> str:
        return self.headers.get("Authorization", "").removeprefix("Bearer ")

    def repository(self, name: str) -> Repository | None:
        """None if it is not there, or not for this token; the refusal is sent then."""
        found = self.server.repositories.get(name)
        if self.token() not in ("", TOKEN, READER):
            self.refuse(401, "", "Invalid credentials in Authorization header")
            return None
        if found is None or (found.private and not self.token()):
            # as the Hub does: it does not tell who has no token whether there is such a model
            status = 404 if self.token() else 401
            self.refuse(status, "RepoNotFound", "Repository not found")
            return None
        return found

    def dispatch(self) -> None:
        self.server.requests.append(f"{self.command} {self.path}")
        length = int(self.headers.get("Content-Length") or 0)
        self.body = self.rfile.read(length)
        time.sleep(self.server.delay)
        if self.server.status is not None:
            self.answer(self.server.status, {"error": "the server is ill"})
            return
        address = urlsplit(self.path)
        self.query = parse_qs(address.query)
        parts = [unquote(part) for part in address.path.strip("/").split("/")]
        if self.command in ("GET", "HEAD"):
            self.read(parts)
        else:
            self.write(parts)

    do_GET = do_HEAD = do_POST = do_PUT = dispatch  # noqa: N815

    def read(self, parts: list[str]) -> None:
        if parts == [""]:
            self.answer(200)
        elif parts == ["api", "models"]:
            self.list_models()
        elif parts[:2] == ["api", "models"]:
            self.model_info("/".join(parts[2:4]), parts[5] if parts[4:] else "main")
        elif parts[2:3] == ["resolve"]:
            self.file("/".join(parts[:2]), parts[3], "/".join(parts[4:]))
        else:
            self.refuse(404, "", "no such page")

    def file(self, name: str, revision: str, file: str) -> None:
        repository = self.repository(name)
        if repository is None:
            return
        found = repository.at(revision)
        if found is None:
            self.refuse(404, "RevisionNotFound", "Invalid rev id")
            return
        commit, files = found
        if file not in files:
            self.refuse(404, "EntryNotFound", "Entry not found")
            return
        content = files[file]
        digest = hashlib.sha256(content).hexdigest()
        if file in self.server.damaged:
            content = content[:-1] + bytes([content[-1] ^ 1])
        linked = {"X_Linked_Etag": f'"{digest}"', "X_Linked_Size": str(len(content))}
        more = linked if is_large(file) else {}
        self.answer(200, content, X_Repo_Commit=commit, ETag=f'"{digest[:40]}"', **more)

    def described(self, name: str, commit: str, files: dict[str, bytes]) -> dict[str, Any]:
        siblings = []
        for file, content in files.items():
            one: dict[str, Any] = {"rfilename": file, "size": len(content)}
            git = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
            one["blobId"] = git
            if is_large(file):
                digest = hashlib.sha256(content).hexdigest()
                one["lfs"] = {"size": len(content), "sha256": digest, "pointerSize": 130}
            siblings.append(one)
        card = files.get("README.md", b"").decode()
        data = yaml.safe_load(card.split("---")[1]) if card.startswith("---") else {}
        tags = [*data.get("tags", []), data.get("library_name", "")]
        if "license" in data:
            tags.append(f"license:{data['license']}")
        private = self.server.repositories[name].private
        about = {"id": name, "modelId": name, "sha": commit, "private": private}
        return {**about, "tags": tags, "siblings": siblings}

    def model_info(self, name: str, revision: str) -> None:
        repository = self.repository(name)
        if repository is not None:
            found = repository.at(revision)
            if found is None:
                self.refuse(404, "RevisionNotFound", "Invalid rev id")
            else:
                self.answer(200, self.described(name, *found))

    def list_models(self) -> None:
        rows = []
        for name, repository in self.server.repositories.items():
            wanted = self.query.get("author", [name.partition("/")[0]])[0]
            if name.partition("/")[0] == wanted and (self.token() or not repository.private):
                rows.append(self.described(name, *repository.commits[-1]))
        filters = set(self.query.get("filter", []))
        self.answer(200, json.dumps([r for r in rows if filters <= {*r["tags"]}]).encode())

    def write(self, parts: list[str]) -> None:
        if parts == ["api", "validate-yaml"]:
            self.answer(200, {"errors": [], "warnings": []})
            return
        if parts[0] == "large":
            self.server.large[parts[1]] = self.body
            self.answer(200)
            return
        if self.token() != TOKEN:
            status = 403 if self.token() == READER else 401
            self.refuse(status, "", "this token may not write")
        elif parts == ["api", "repos", "create"]:
            self.create(json.loads(self.body))
        elif parts[1].endswith(".git"):
            self.batch(json.loads(self.body))
        elif parts[4] == "preupload":
            self.preupload("/".join(parts[2:4]), json.loads(self.body))
        else:
            self.commit("/".join(parts[2:4]))

    def create(self, wanted: dict[str, Any]) -> None:
        name = f"{wanted['organization']}/{wanted['name']}"
        # huggingface_hub 1 says private, 2 says visibility
        private = wanted.get("private") is True or wanted.get("visibility") == "private"
        repository = Repository(private=private)
        repository.commit({".gitattributes": b"*.safetensors filter=lfs\n"})
        self.server.repositories[name] = repository
        self.answer(200, {"url": f"{self.server.url}/{name}"})

    def preupload(self, name: str, wanted: dict[str, Any]) -> None:
        if self.repository(name) is None:
            return
        files = [
            {
                "path": file["path"],
                "uploadMode": "lfs" if is_large(file["path"]) else "regular",
                "shouldIgnore": False,
            }
            for file in wanted["files"]
        ]
        self.answer(200, {"files": files})

    def batch(self, wanted: dict[str, Any]) -> None:
        objects = [
            {**one, "actions": {"upload": {"href": f"{self.server.url}/large/{one['oid']}"}}}
            for one in wanted["objects"]
        ]
        self.answer(200, {"transfer": "basic", "objects": objects})

    def commit(self, name: str) -> None:
        repository = self.repository(name)
        if repository is None:
            return
        files = dict(repository.commits[-1][1])
        for line in self.body.splitlines():
            item = json.loads(line)
            value = item["value"]
            if item["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif item["key"] == "lfsFile":
                content = self.server.large[value["oid"]]
                assert hashlib.sha256(content).hexdigest() == value["oid"]
                files[value["path"]] = content
            elif item["key"] == "deletedFile":
                del files[value["path"]]
        commit = repository.commit(files)
        url = f"{self.server.url}/{name}/commit/{commit}"
        self.answer(200, {"commitUrl": url, "commitOid": commit, "success": True})
