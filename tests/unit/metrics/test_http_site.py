from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from hisparse_metrics.collector import PageCollector
from hisparse_metrics.http_site import Site
from hisparse_metrics.page_folder import PageFolder
from hisparse_metrics.web.errors import ExporterError
from hisparse_metrics.web.messages import Request, Response
from hisparse_metrics.web.options import WebOptions
from hisparse_metrics.web.served import Served, served_pages
from tests.unit.metrics.support import make_step, published

PROMETHEUS_ACCEPT = (
    "application/openmetrics-text;version=1.0.0;escaping=underscores;q=0.5,"
    "application/openmetrics-text;version=0.0.1;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2"
)


def get(folder: Path, path: str, method: str = "GET", **headers: str) -> Response:
    collector = PageCollector(PageFolder(folder))
    site = Site(served_pages(collector, clock=lambda: make_step().timestamp + 1.5))
    return site.respond(Request(method, path, **headers))


@pytest.mark.parametrize("accept", ["", "*/*", "text/plain", "text/html", "text/plain;version=0.0.4"])
def test_text_format_is_the_default(tmp_path: Path, accept: str) -> None:
    response = get(tmp_path, "/metrics", accept=accept)
    assert (response.status, response.content_type) == (200, "text/plain; version=0.0.4; charset=utf-8")
    assert not response.body.endswith(b"# EOF\n")


@pytest.mark.parametrize("accept", [PROMETHEUS_ACCEPT, "application/openmetrics-text"])
def test_openmetrics_on_request(tmp_path: Path, accept: str) -> None:
    response = get(tmp_path, "/metrics", accept=accept)
    assert response.content_type.startswith("application/openmetrics-text; version=1.0.0; charset=utf-8")
    assert response.body.endswith(b"# EOF\n")


@pytest.mark.parametrize("version", ["x", "", "1..0", "9" * 5000, "1.0.0\r\n X: y", "٣"])
def test_a_nonsense_version_is_ignored(tmp_path: Path, version: str) -> None:
    response = get(tmp_path, "/metrics", accept=f"application/openmetrics-text;version={version}")
    assert (response.status, response.content_type) == (200, "text/plain; version=0.0.4; charset=utf-8")


def test_a_client_cannot_make_a_format_of_its_own(tmp_path: Path) -> None:
    types = {
        get(tmp_path, "/metrics", accept=f"{kind};version={major}.{minor};escaping={escaping}").content_type
        for kind in ("application/openmetrics-text", "text/plain")
        for major in range(3)
        for minor in range(3)
        for escaping in ("underscores", "allow-utf-8", "dots", "mine")
    }
    assert len(types) == 2


def test_gzip_on_request(tmp_path: Path) -> None:
    plain = get(tmp_path, "/metrics")
    packed = get(tmp_path, "/metrics", accept_encoding="deflate, gzip;q=1.0")
    assert packed.headers == {"Content-Encoding": "gzip"}
    assert gzip.decompress(packed.body) == plain.body


def test_health_tells_pages_up_and_age(tmp_path: Path) -> None:
    recorder = published(tmp_path)
    (tmp_path / "bad.page").touch()
    response = get(tmp_path, "/healthz")
    assert response.content_type == "application/json"
    facts = json.loads(response.body)
    assert facts == {
        "status": "ok", "pages": 1, "up": 1, "last_step_age_seconds": 1.5, "skipped": {"truncated": 1},
    }  # fmt: skip
    recorder.close(unlink=True)
    facts = json.loads(get(tmp_path, "/healthz").body)
    assert (facts["pages"], facts["up"], facts["last_step_age_seconds"]) == (0, 0, None)


def test_live_page_links_and_escapes(tmp_path: Path) -> None:
    response = get(tmp_path / "<script>", "/")
    assert response.content_type == "text/html; charset=utf-8"
    assert b'href="./metrics"' in response.body
    assert b"&lt;script&gt;" in response.body
    assert b"<script>" not in response.body


@pytest.mark.parametrize(
    "path",
    [
        "/metric",
        "/metrics/",
        "/../etc/passwd",
        "/metrics/../metrics",
        "/%2e%2e/etc/passwd",
        "/%6detrics",
        "",
        "//",
        "//metrics",
        "/favicon.ico",
        "/metrics%00",
        "*",
    ],
)
def test_unknown_paths_are_not_found(tmp_path: Path, path: str) -> None:
    assert get(tmp_path, path).status == 404


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "BREW", "get"])
def test_other_methods_are_refused(tmp_path: Path, method: str) -> None:
    response = get(tmp_path, "/metrics", method)
    assert (response.status, response.headers) == (405, {"Allow": "GET, HEAD"})


def test_metrics_path_can_be_chosen(tmp_path: Path) -> None:
    site = Site(served_pages(PageCollector(PageFolder(tmp_path))), "/probe/metrics")
    assert site.respond(Request("GET", "/probe/metrics")).body.startswith(b"# HELP")
    assert site.respond(Request("GET", "/metrics")).status == 404
    assert b'href="./probe/metrics"' in site.respond(Request("GET", "/")).body


@pytest.mark.parametrize("path", ["/", "/healthz", "/-/ready", "/-/healthy", "/api/v1/history"])
def test_metrics_path_cannot_hide_another(tmp_path: Path, path: str) -> None:
    with pytest.raises(ExporterError, match="uses that path"):
        Site(served_pages(PageCollector(PageFolder(tmp_path))), path)


@pytest.mark.parametrize("path", ["metrics", "", "/a b", "/a?b", "/a#b", "/ä", "/a\n"])
def test_nonsense_metrics_paths_are_refused(path: str) -> None:
    with pytest.raises(ExporterError, match=r"--web\.telemetry-path"):
        WebOptions(telemetry_path=path)


def test_healthy_always_and_ready_when_the_source_says_so(tmp_path: Path) -> None:
    ready: list[bool] = []
    served = Served(PageCollector(PageFolder(tmp_path)), "a test", dict, lambda: bool(ready))
    site = Site(served)
    assert site.respond(Request("GET", "/-/healthy")).status == 200
    assert site.respond(Request("GET", "/-/ready")).status == 503
    ready.append(True)
    assert site.respond(Request("GET", "/-/ready")).status == 200
