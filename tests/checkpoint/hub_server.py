"""A stand-in of the hub on the loopback: the part of its protocol that a download uses, and its accidents.

    with Hub(tmp_path) as hub:
        hub.publish("qwen/tiny", {"config.json": b"..."})             -> the commit; `main` points to it
        hub.url, hub.asked                                            what was asked for: (method, path, range)

Large files (`.safetensors`) are LFS: a redirect leads to them, their tag is the SHA-256; others have git's hash.
Answers that break off, lie, or are refused are set by `broken`, `lies`, `refused`.
"""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any


def git_hash(data: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


class Hub:
    def __init__(self) -> None:
        self.repos: dict[str, dict[str, dict[str, bytes]]] = {}      # name -> commit -> file -> content
        self.refs: dict[tuple[str, str], str] = {}
        self.asked: list[tuple[str, str, str | None]] = []
        self.broken: dict[str, int] = {}                             # file -> how many answers break off half way
        self.lies: dict[str, bytes] = {}                             # file -> what is sent instead
        self.refused: dict[str, tuple[int, str]] = {}                # name -> status, error code
        self.tokens: list[str | None] = []
        self.when_asked: dict[str, Any] = {}                         # file -> called when it is asked for

    def publish(self, name: str, files: dict[str, bytes], branch: str = "main") -> str:
        commit = hashlib.sha1(repr(sorted(files.items())).encode()).hexdigest()
        self.repos.setdefault(name, {})[commit] = files
        self.refs[name, branch] = commit
        return commit

    def commit(self, name: str, revision: str) -> str | None:
        commits = self.repos.get(name, {})
        return self.refs.get((name, revision)) or (revision if revision in commits else None)

    def downloads(self) -> list[str]:
        """Files whose content was asked for."""
        return [path.rpartition("/")[2] for method, path, _ in self.asked if method == "GET" and "/api/" not in path]

    def __enter__(self) -> Hub:
        hub = self

        class Handler(_Handler):
            pass
        Handler.hub = hub
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        self.cdn = self.url.replace("127.0.0.1", "localhost")       # another host, as large files have one
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *error: object) -> None:
        self.server.shutdown()
        self.server.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: Hub

    def log_message(self, *words: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def _answer(self) -> None:
        self.hub.asked.append((self.command, self.path, self.headers.get("Range")))
        self.hub.tokens.append(self.headers.get("Authorization"))
        path = self.path.partition("?")[0]
        if match := re.fullmatch(r"/api/models/([^/]+/[^/]+)(?:/revision/(.+))?", path):
            return self._info(match[1], match[2] or "main")
        if match := re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path):
            return self._resolve(*match.groups())
        if match := re.fullmatch(r"/cdn/([^/]+/[^/]+)/([^/]+)/(.+)", path):
            return self._send(match[3], self.hub.repos[match[1]][match[2]][match[3]], {})
        return self._refuse(404, "")

    def _refuse(self, status: int, code: str) -> None:
        self._reply(status, b"{}", {"X-Error-Code": code, "X-Error-Message": code, "Content-Type": "application/json"})

    def _reply(self, status: int, data: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for key, value in headers.items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(data)

    def _found(self, name: str, revision: str) -> tuple[str, dict[str, bytes]] | None:
        if name in self.hub.refused:
            self._refuse(*self.hub.refused[name])
        elif name not in self.hub.repos:
            self._refuse(401, "RepoNotFound")
        elif (commit := self.hub.commit(name, revision)) is None:
            self._refuse(404, "RevisionNotFound")
        else:
            return commit, self.hub.repos[name][commit]
        return None

    def _info(self, name: str, revision: str) -> None:
        if (found := self._found(name, revision)) is None:
            return
        commit, files = found
        listed = [{"rfilename": file, "size": len(data), "blobId": git_hash(data),
                   **({"lfs": {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data), "pointerSize": 134}}
                      if file.endswith(".safetensors") else {})} for file, data in files.items()]
        said = {"id": name, "sha": commit, "siblings": listed, "private": False, "downloads": 0, "likes": 0, "tags": []}
        self._reply(200, json.dumps(said).encode(), {"Content-Type": "application/json"})

    def _resolve(self, name: str, revision: str, file: str) -> None:
        self.hub.when_asked.pop(file, lambda: None)()
        if (found := self._found(name, revision)) is None:
            return
        commit, files = found
        if file not in files:
            return self._refuse(404, "EntryNotFound")
        data = files[file]
        if not file.endswith(".safetensors"):
            return self._send(file, data, {"ETag": f'"{git_hash(data)}"', "X-Repo-Commit": commit})
        self._reply(302, b"", {"Location": f"{self.hub.cdn}/cdn/{name}/{commit}/{file}", "X-Repo-Commit": commit,
                               "X-Linked-Etag": f'"{hashlib.sha256(data).hexdigest()}"',
                               "X-Linked-Size": str(len(data))})

    def _send(self, file: str, data: bytes, headers: dict[str, str]) -> None:
        """A file, or the range of it that is asked for; half of that where the line is to break."""
        data = self.hub.lies.get(file, data)
        span = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range") or "")
        start = int(span[1]) if span else 0
        stop = int(span[2]) + 1 if span and span[2] else len(data)
        part = data[start:stop]
        self.send_response(206 if span else 200)
        for key, value in headers.items():
            self.send_header(key, value)
        if span:
            self.send_header("Content-Range", f"bytes {start}-{stop - 1}/{len(data)}")
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Content-Length", str(len(part)))
        self.end_headers()
        if self.command != "GET":
            return
        if self.hub.broken.get(file, 0) > 0:
            self.hub.broken[file] -= 1
            self.wfile.write(part[: len(part) // 2])
            self.wfile.flush()
            self.close_connection = True
            self.connection.close()
            return
        self.wfile.write(part)


def files_of(folder: Path) -> Iterator[tuple[str, bytes]]:
    """The files of a checkpoint's folder, as a repository holds them."""
    for path in sorted(folder.iterdir()):
        if path.suffix in (".json", ".safetensors", ".txt"):
            yield path.name, path.read_bytes()
