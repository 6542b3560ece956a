"""What the server says about itself: models, health, version, metrics; and the abort of a request."""

from __future__ import annotations

from http import HTTPStatus

from anyio import CapacityLimiter, to_thread
from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from hisparse_engine import __version__
from hisparse_engine.server.errors import ApiError
from hisparse_engine.server.gate import Phase
from hisparse_engine.server.generation_api import Service
from hisparse_metrics.collector import PageCollector
from hisparse_metrics.http_site import Expositions
from hisparse_metrics.web.messages import Request as ScrapeRequest

_MAX_SCRAPES = 64
"""Scrapes that wait in threads of their own for the same exposition; further ones wait for a thread."""


def site_routes(service: Service, collector: PageCollector) -> APIRouter:
    """Return the routes. ``collector`` reads the stats pages, of this server's engine among them."""
    router = APIRouter()
    expositions = Expositions(collector)
    threads = CapacityLimiter(_MAX_SCRAPES)

    @router.api_route("/health", methods=["GET", "HEAD"])
    async def health() -> Response:
        phase = service.gate.phase
        status = HTTPStatus.OK if phase is Phase.OPEN else HTTPStatus.SERVICE_UNAVAILABLE
        return JSONResponse({"status": phase.value, "open_requests": len(service.answers)}, status)

    @router.api_route("/version", methods=["GET", "HEAD"])
    async def version() -> Response:
        return JSONResponse({"version": __version__})

    @router.api_route("/metrics", methods=["GET", "HEAD"])
    async def metrics(request: Request) -> Response:
        asked = ScrapeRequest(
            request.method,
            "/metrics",
            accept=request.headers.get("accept", ""),
            accept_encoding=request.headers.get("accept-encoding", ""),
        )
        found = await to_thread.run_sync(expositions.respond, asked, limiter=threads)
        return Response(found.body, found.status, {**found.headers, "Content-Type": found.content_type})

    @router.get("/v1/models")
    async def models() -> Response:
        return JSONResponse({"object": "list", "data": [_model_object(service)]})

    @router.get("/v1/models/{name:path}")
    async def model(name: str) -> Response:
        if name != service.model.name:
            raise ApiError(
                HTTPStatus.NOT_FOUND,
                f"model {name[:100]!r} is not served here; this server has {service.model.name!r}",
                param="model",
                code="model_not_found",
            )
        return JSONResponse(_model_object(service))

    @router.delete("/v1/requests/{answer_id}")
    async def abort(answer_id: str) -> Response:
        if not service.answers.abort(answer_id):
            raise ApiError(
                HTTPStatus.NOT_FOUND,
                f"request {answer_id[:128]!r} is not running here",
                code="request_not_found",
            )
        return JSONResponse({"id": answer_id, "object": "request", "aborted": True})

    return router


def _model_object(service: Service) -> dict[str, object]:
    model = service.model
    return {
        "id": model.name,
        "object": "model",
        "created": model.created,
        "owned_by": "hisparse",
        "max_model_len": model.limits.max_model_len,
    }
