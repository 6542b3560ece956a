"""The ASGI application, put together: routes, failures, keys. Opens no socket and starts no process."""

from __future__ import annotations

from collections.abc import Sequence

from fastapi import FastAPI

from hisparse_engine import __version__
from hisparse_engine.server.api_keys import KeyCheck
from hisparse_engine.server.failures import handle_failures
from hisparse_engine.server.generation_api import Service, generation_routes
from hisparse_engine.server.host_check import HostCheck
from hisparse_engine.server.site_api import site_routes
from hisparse_metrics.collector import PageCollector


def make_app(
    service: Service, collector: PageCollector, keys: Sequence[str] | None, *, on_loopback: bool
) -> FastAPI:
    """Return the application. Without ``keys`` everybody is let in; ``on_loopback``, every program of this machine."""
    app = FastAPI(
        title="HiSparse", version=__version__, openapi_url=None
    )  # no page that loads scripts from afar
    app.router.redirect_slashes = False
    app.include_router(generation_routes(service))
    app.include_router(site_routes(service, collector))
    handle_failures(app)
    if keys is not None:
        app.add_middleware(KeyCheck, keys=keys)
    elif on_loopback:
        app.add_middleware(HostCheck)
    return app
