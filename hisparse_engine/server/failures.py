"""Every failure of an HTTP request in OpenAI's shape, also those that no endpoint of ours raised."""

from __future__ import annotations

from http import HTTPStatus

from fastapi import FastAPI
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from hisparse_engine.server.errors import SERVER, ApiError


def handle_failures(app: FastAPI) -> None:
    """Let ``app`` answer every failure in OpenAI's shape."""

    @app.exception_handler(ApiError)
    async def api_error(_request: Request, error: ApiError) -> Response:
        return response(error)

    @app.exception_handler(HTTPException)
    async def http_exception(request: Request, error: HTTPException) -> Response:
        return response(_from_framework(request, error))

    @app.exception_handler(ClientDisconnect)
    async def client_gone(_request: Request, _error: ClientDisconnect) -> Response:
        return Response(status_code=HTTPStatus.NO_CONTENT)  # nobody reads it

    @app.exception_handler(Exception)
    async def bug(_request: Request, _error: Exception) -> Response:  # the framework logs it
        return response(
            ApiError(
                HTTPStatus.INTERNAL_SERVER_ERROR,
                "the server failed to handle this request; its log has the details, please report them",
                kind=SERVER,
                code="internal_error",
            )
        )


def response(error: ApiError) -> Response:
    """Return the answer that ``error`` is."""
    return Response(error.encode(), error.status, error.headers, "application/json")


async def respond_with(error: ApiError, scope: Scope, receive: Receive, send: Send) -> None:
    """Answer an ASGI request with ``error``."""
    await response(error)(scope, receive, send)


def _from_framework(request: Request, error: HTTPException) -> ApiError:
    status = HTTPStatus(error.status_code)
    where = f"{request.method} {request.url.path[:200]}"
    if status is HTTPStatus.NOT_FOUND:
        message, code = f"{where}: no such endpoint; docs/serving.md lists them", "not_found"
    elif status is HTTPStatus.METHOD_NOT_ALLOWED:
        allowed = (error.headers or {}).get("Allow", "another method")
        message, code = f"{where}: method not allowed; use {allowed}", "method_not_allowed"
    else:
        message, code = f"{where}: {error.detail}", status.phrase.lower().replace(" ", "_")
    return ApiError(status, message, code=code, headers=error.headers)
