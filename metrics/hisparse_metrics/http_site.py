"""What the exporter answers: routes and bodies, the live page's among them. Knows requests as values; opens no socket."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from http import HTTPStatus

from prometheus_client.exposition import gzip_accepted
from prometheus_client.registry import Collector

from hisparse_metrics.live.pages import live_routes
from hisparse_metrics.live.sampler import Sampler
from hisparse_metrics.live.sources import readings_of
from hisparse_metrics.web.coalesce import Coalesced
from hisparse_metrics.web.errors import ExporterError
from hisparse_metrics.web.exposition import Format, choose_format, render, render_gzip
from hisparse_metrics.web.messages import Request, Response, text_response
from hisparse_metrics.web.options import DEFAULT_TELEMETRY_PATH
from hisparse_metrics.web.served import Served

ALLOWED_METHODS = ("GET", "HEAD")
_Route = Callable[[Request], Response]


class Site:
    """The exporter's pages about ``served``, its metrics under ``telemetry_path``, a history that nobody has begun yet."""

    def __init__(self, served: Served, telemetry_path: str = DEFAULT_TELEMETRY_PATH) -> None:
        self.sampler = Sampler(readings_of(served.collector))
        self._served = served
        self._telemetry_path = telemetry_path
        self._expositions = Expositions(served.collector)
        self._health = Coalesced(self._compute_health)
        self._routes: dict[str, _Route] = {
            "/healthz": self._healthz, "/-/healthy": _healthy, "/-/ready": self._ready,
            **live_routes(self.sampler, served.about, telemetry_path),
        }  # fmt: skip
        if telemetry_path in self._routes:
            raise ExporterError(f"cannot serve metrics under {telemetry_path}: the exporter uses that path")
        self._routes[telemetry_path] = self._expositions.respond

    def respond(self, request: Request) -> Response:
        """Answer ``request``: 404 for an unknown path, 405 for anything but GET and HEAD."""
        if request.method not in ALLOWED_METHODS:
            allow = ", ".join(ALLOWED_METHODS)
            return text_response(HTTPStatus.METHOD_NOT_ALLOWED, "only GET and HEAD", Allow=allow)
        route = self._routes.get(request.path)
        if route is None:
            return text_response(HTTPStatus.NOT_FOUND, f"not found; try / or {self._telemetry_path}")
        return route(request)

    def _healthz(self, _: Request) -> Response:
        return Response(HTTPStatus.OK, "application/json", self._health.get())

    def _compute_health(self) -> bytes:
        return json.dumps({"status": "ok", **self._served.facts()}).encode() + b"\n"

    def _ready(self, _: Request) -> Response:
        if self._served.is_ready():
            return text_response(HTTPStatus.OK, "ready")
        return text_response(HTTPStatus.SERVICE_UNAVAILABLE, "not ready yet")


class Expositions:
    """The metrics of ``collector`` in every format; clients that ask at once for the same one share it."""

    def __init__(self, collector: Collector) -> None:
        self._shared = {
            (form, packed): Coalesced(partial(encode, collector, form))
            for form in Format
            for packed, encode in ((False, render), (True, render_gzip))
        }

    def respond(self, request: Request) -> Response:
        """Answer in the format that the request prefers."""
        form, packed = choose_format(request.accept), gzip_accepted(request.accept_encoding)
        body = self._shared[form, packed].get()
        return Response(HTTPStatus.OK, form.value, body, {"Content-Encoding": "gzip"} if packed else {})


def _healthy(_: Request) -> Response:
    return text_response(HTTPStatus.OK, "healthy")
