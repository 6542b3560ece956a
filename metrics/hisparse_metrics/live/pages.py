"""The live page over HTTP: the page at ``/``, its files, and the endpoint that feeds it. Routes and headers only."""

from __future__ import annotations

import html
import platform
from collections.abc import Callable, Mapping
from functools import partial
from http import HTTPStatus
from importlib.metadata import PackageNotFoundError, version
from string import Template

from prometheus_client.exposition import gzip_accepted

from hisparse_metrics.live.api import PATH, HistoryApi
from hisparse_metrics.live.assets import Asset, load_assets
from hisparse_metrics.live.sampler import Sampler
from hisparse_metrics.web.messages import Request, Response

CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_SAFE = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
}
_FOR_A_YEAR = "public, max-age=31536000, immutable"

Route = Callable[[Request], Response]


def live_routes(sampler: Sampler, about: str, telemetry_path: str) -> Mapping[str, Route]:
    """Return the routes of the live page over ``sampler``'s history; ``about`` says where the numbers come from."""
    assets = load_assets()
    page = _page(about, telemetry_path).encode(errors="replace")
    return {
        "/": partial(_respond_page, Asset("text/html; charset=utf-8", page)),
        PATH: HistoryApi(sampler, assets.version).respond,
        **{
            f"/live/{assets.version}/{path}": partial(_respond_file, asset)
            for path, asset in assets.files.items()
        },
    }


def build_version() -> str:
    """Return the installed release, or ``unreleased`` when run from a source tree."""
    try:
        return version("hisparse")
    except PackageNotFoundError:
        return "unreleased"


def _page(about: str, telemetry_path: str) -> str:
    """Fill in the page; every link is relative, so that it works under any prefix that a proxy adds."""
    assets = load_assets()
    values = {
        "files": f"live/{assets.version}",
        "api": PATH.removeprefix("/"),
        "version": build_version(),
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "about": about,
        "metrics": telemetry_path,
    }
    return Template(assets.template).substitute({name: html.escape(text) for name, text in values.items()})


def _respond_page(page: Asset, request: Request) -> Response:
    security = {"Content-Security-Policy": CONTENT_SECURITY_POLICY, "Cache-Control": "no-store"}
    return _packed(page, request, security)


def _respond_file(asset: Asset, request: Request) -> Response:
    return _packed(asset, request, {"Cache-Control": _FOR_A_YEAR})


def _packed(asset: Asset, request: Request, headers: Mapping[str, str]) -> Response:
    packed = gzip_accepted(request.accept_encoding)
    encoding = {"Content-Encoding": "gzip"} if packed else {}
    all_headers = {**_SAFE, **headers, **encoding, "Vary": "Accept-Encoding"}
    return Response(HTTPStatus.OK, asset.content_type, asset.packed if packed else asset.body, all_headers)
