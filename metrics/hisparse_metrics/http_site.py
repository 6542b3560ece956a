"""What the exporter answers: routes and bodies. Knows requests as values; opens no socket."""

from __future__ import annotations

import gzip
import html
import json
import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from http import HTTPStatus
from importlib.metadata import PackageNotFoundError, version

from prometheus_client.exposition import choose_encoder, gzip_accepted

from hisparse_metrics.collector import PageCollector

ALLOWED_METHODS = ("GET", "HEAD")
_TEXT = "text/plain; charset=utf-8"


@dataclass(frozen=True, slots=True)
class Request:
    """What of a request matters here; ``path`` without its query."""

    method: str
    path: str
    accept: str = ""
    accept_encoding: str = ""


@dataclass(frozen=True, slots=True)
class Response:
    """A complete answer."""

    status: HTTPStatus
    content_type: str
    body: bytes
    headers: dict[str, str] = field(default_factory=dict)


class Site:
    """The exporter's pages. ``clock`` gives Unix seconds."""

    def __init__(self, collector: PageCollector, *, clock: Callable[[], float] = time.time) -> None:
        self._collector = collector
        self._clock = clock
        self._routes = {"/": self._landing, "/metrics": self._metrics, "/healthz": self._healthz}

    def respond(self, request: Request) -> Response:
        """Answer ``request``: 404 for an unknown path, 405 for anything but GET and HEAD."""
        if request.method not in ALLOWED_METHODS:
            allow = {"Allow": ", ".join(ALLOWED_METHODS)}
            return Response(HTTPStatus.METHOD_NOT_ALLOWED, _TEXT, b"only GET and HEAD\n", allow)
        route = self._routes.get(request.path)
        if route is None:
            return Response(HTTPStatus.NOT_FOUND, _TEXT, b"not found; try / or /metrics\n")
        return route(request)

    def _metrics(self, request: Request) -> Response:
        encode, content_type = choose_encoder(_tame(request.accept))
        body = encode(self._collector)
        if not gzip_accepted(request.accept_encoding):
            return Response(HTTPStatus.OK, content_type, body)
        return Response(HTTPStatus.OK, content_type, gzip.compress(body, 1), {"Content-Encoding": "gzip"})

    def _healthz(self, _: Request) -> Response:
        found = self._collector.folder.read()
        newest = found.last_step_timestamp
        facts = {
            "status": "ok",
            "pages": len(found.pages),
            "up": found.num_up,
            "last_step_age_seconds": None if newest is None else round(self._clock() - newest, 3),
            "skipped": {reason: count for reason, count in sorted(found.skipped.items()) if count},
        }
        return Response(HTTPStatus.OK, "application/json", json.dumps(facts).encode() + b"\n")

    def _landing(self, _: Request) -> Response:
        folder = html.escape(str(self._collector.folder.path))
        body = _LANDING.format(version=html.escape(build_version()), folder=folder)
        return Response(HTTPStatus.OK, "text/html; charset=utf-8", body.encode(errors="replace"))


def build_version() -> str:
    """Return the installed release, or ``unreleased`` when run from a source tree."""
    try:
        return version("hisparse")
    except PackageNotFoundError:
        return "unreleased"


def _tame(accept: str) -> str:
    """Keep the media types of an Accept header whose version the client library can compare."""
    return ",".join(part for part in accept.split(",") if _comparable_version(part))


def _comparable_version(media_type: str) -> bool:
    parameters = [parameter.strip().partition("=") for parameter in media_type.split(";")]
    versions = [value for key, _, value in parameters if key == "version"]
    return all(re.fullmatch(r"[0-9]{1,3}(\.[0-9]{1,3}){0,3}", value) for value in versions)


_LANDING = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>HiSparse exporter</title></head>
<body><h1>HiSparse exporter</h1><p>Version {version}, reading the stats pages in {folder}</p>
<ul><li><a href="/metrics">/metrics</a></li><li><a href="/healthz">/healthz</a></li></ul></body></html>
"""
