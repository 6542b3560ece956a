"""What a client is told when there is no answer: OpenAI's shape, with the field, the reason and the remedy."""

from __future__ import annotations

import json
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

INVALID = "invalid_request_error"
SERVER = "server_error"


class ApiError(Exception):
    """An answer that is an error. ``param`` names the field, ``code`` the kind for programs."""

    def __init__(
        self,
        status: HTTPStatus,
        message: str,
        *,
        kind: str = INVALID,
        param: str | None = None,
        code: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.headers = dict(headers or {})
        self.body: dict[str, Any] = {
            "error": {"message": message, "type": kind, "param": param, "code": code}
        }

    def encode(self) -> bytes:
        """Return the body as JSON."""
        return json.dumps(self.body, ensure_ascii=False).encode(errors="replace")


def bad_request(message: str, *, param: str | None = None, code: str | None = None) -> ApiError:
    """Return a 400 for what the client should change."""
    return ApiError(HTTPStatus.BAD_REQUEST, message, param=param, code=code)


def queue_full(reason: str, retry_after: int) -> ApiError:
    """Return the 429 of a server that has enough to do."""
    return ApiError(
        HTTPStatus.TOO_MANY_REQUESTS,
        f"{reason}; try again in {retry_after} s, or raise --max-waiting-requests",
        kind="rate_limit_error",
        code="queue_full",
        headers={"Retry-After": str(retry_after)},
    )


def unavailable(message: str, code: str, retry_after: int) -> ApiError:
    """Return the 503 of a server that takes no work now."""
    return ApiError(
        HTTPStatus.SERVICE_UNAVAILABLE, message, kind=SERVER, code=code,
        headers={"Retry-After": str(retry_after)},
    )  # fmt: skip


def shutting_down(message: str = "the server is shutting down and takes no new requests") -> ApiError:
    """Return the 503 of a server that goes."""
    return unavailable(message, "shutting_down", 5)


def engine_failed(message: str) -> ApiError:
    """Return the 500 of a request that was lost through no fault of its own."""
    return ApiError(HTTPStatus.INTERNAL_SERVER_ERROR, message, kind=SERVER, code="engine_failed")


def engine_gone() -> ApiError:
    """Return the 500 of a request that was lost with the engine process."""
    return engine_failed("the engine process ended while the request was in it; send the request again")


def aborted() -> ApiError:
    """Return what a client reads whose request another one has aborted."""
    return ApiError(HTTPStatus.GONE, "the request was aborted", code="request_aborted")
