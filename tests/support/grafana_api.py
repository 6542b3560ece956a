"""The part of Grafana's HTTP API that a push needs, as its documentation describes it, in a small server.

Grafana itself cannot be had from a package registry. Statuses and bodies here are those of the pages "Folder HTTP API" and
"Dashboard HTTP API" of Grafana's documentation: 401 and 403 for tokens, 412 with ``status`` for conflicts, 409 for a folder
that exists, 400 for a provisioned dashboard, a version that counts up.
"""

from __future__ import annotations

import json
import ssl
import threading
import urllib.parse
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Any, NamedTuple, Self

TOKEN = "glsa_0123456789abcdef"
VIEWER = "glsa_viewer"


class Answer(NamedTuple):
    """What the server says; ``body`` None closes the connection without a word."""

    status: int
    body: object
    headers: Mapping[str, str] = MappingProxyType({})


SILENCE = Answer(0, None)


class _QuietServer(ThreadingHTTPServer):
    def handle_error(self, *_: object) -> None:
        """Say nothing: clients that go away are part of the tests."""


@dataclass
class FakeGrafana:
    """A Grafana under ``/prefix`` of a free port; TLS with ``certificate``. ``before`` may answer in its place."""

    prefix: str = ""
    certificate: tuple[Path, Path] | None = None
    folders: dict[str, str] = field(default_factory=dict)
    """uid → title."""
    dashboards: dict[str, dict[str, Any]] = field(default_factory=dict)
    """uid → what was saved: dashboard, folderUid, version."""
    provisioned: set[str] = field(default_factory=set)
    before: Callable[[str, str, int], Answer | None] | None = None
    """Called with method, path and the number of such requests so far."""
    requests: list[tuple[str, str]] = field(default_factory=list)
    bodies: list[dict[str, Any]] = field(default_factory=list)

    def __enter__(self) -> Self:
        fake = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                fake._serve(self)

            def do_POST(self) -> None:
                fake._serve(self)

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        self._server = _QuietServer(("127.0.0.1", 0), Handler)
        if self.certificate:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*self.certificate)
            self._server.socket = context.wrap_socket(
                self._server.socket, server_side=True, do_handshake_on_connect=False
            )
        self._thread = threading.Thread(target=self._server.serve_forever, name="fake-grafana")
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    @property
    def url(self) -> str:
        return (
            f"http{'s' if self.certificate else ''}://127.0.0.1:{self._server.server_address[1]}{self.prefix}"
        )

    def count(self, method: str, path: str) -> int:
        return self.requests.count((method, path))

    def _serve(self, handler: BaseHTTPRequestHandler) -> None:
        parts = urllib.parse.urlsplit(handler.path)
        path = parts.path.removeprefix(self.prefix)
        body = json.loads(handler.rfile.read(int(handler.headers.get("Content-Length", 0))) or b"{}")
        self.requests.append((handler.command, path))
        self.bodies.append(body)
        answer = (
            self.before(handler.command, path, self.count(handler.command, path)) if self.before else None
        )
        answer = answer or self._answer(handler, path, dict(urllib.parse.parse_qsl(parts.query)), body)
        if answer.body is None:
            handler.close_connection = True
            return
        text = answer.body if isinstance(answer.body, str) else json.dumps(answer.body)
        handler.send_response(answer.status)
        kind = "text/html" if isinstance(answer.body, str) else "application/json"
        for name, value in {"Content-Type": kind, "Content-Length": str(len(text)), **answer.headers}.items():
            handler.send_header(name, value)
        handler.end_headers()
        handler.wfile.write(text.encode())

    def _answer(
        self, handler: BaseHTTPRequestHandler, path: str, query: dict[str, str], body: dict[str, Any]
    ) -> Answer:
        token = handler.headers.get("Authorization", "").removeprefix("Bearer ")
        if token not in {TOKEN, VIEWER}:
            return Answer(401, {"message": "Invalid API key"})
        if handler.command == "POST" and token == VIEWER:
            return Answer(403, {"message": "You'll need additional permissions to perform this action."})
        if (handler.command, path) == ("GET", "/api/folders"):
            page, limit = int(query["page"]), int(query["limit"])
            every = [{"uid": uid, "title": title} for uid, title in self.folders.items()]
            return Answer(200, every[(page - 1) * limit : page * limit])
        if (handler.command, path) == ("POST", "/api/folders"):
            return self._create_folder(body["title"])
        if (handler.command, path) == ("POST", "/api/dashboards/db"):
            return self._save(body)
        return Answer(404, {"message": "Not found"})

    def _create_folder(self, title: str) -> Answer:
        if title in self.folders.values():
            return Answer(409, {"message": "a folder with the same name already exists"})
        uid = f"folder-{len(self.folders) + 1}"
        self.folders[uid] = title
        return Answer(200, {"uid": uid, "title": title, "url": f"{self.prefix}/dashboards/f/{uid}"})

    def _save(self, body: dict[str, Any]) -> Answer:
        board, folder = body["dashboard"], body["folderUid"]
        if folder not in self.folders:
            return Answer(404, {"status": "not-found", "message": "Folder not found"})
        if board["uid"] in self.provisioned:
            return Answer(400, {"message": "Cannot save provisioned dashboard"})
        if board["uid"] in self.dashboards and not body["overwrite"]:
            return Answer(
                412,
                {"status": "version-mismatch", "message": "The dashboard has been changed by someone else"},
            )
        version = self.dashboards.get(board["uid"], {"version": 0})["version"] + 1
        self.dashboards[board["uid"]] = {"dashboard": board, "folderUid": folder, "version": version}
        slug = board["title"].lower().replace(" ", "-")
        return Answer(200, {"id": 1, "uid": board["uid"], "url": f"{self.prefix}/d/{board['uid']}/{slug}",
                            "status": "success", "version": version, "slug": slug})  # fmt: skip
