"""Requests and answers as values; whoever makes or reads them knows no socket."""

from __future__ import annotations

from dataclasses import dataclass, field
from http import HTTPStatus

TEXT = "text/plain; charset=utf-8"


@dataclass(frozen=True, slots=True)
class Request:
    """What of a request matters here; ``path`` without its ``query``, both as sent."""

    method: str
    path: str
    accept: str = ""
    accept_encoding: str = ""
    authorization: str = field(default="", repr=False)
    query: str = ""


@dataclass(frozen=True, slots=True)
class Response:
    """A complete answer."""

    status: HTTPStatus
    content_type: str
    body: bytes
    headers: dict[str, str] = field(default_factory=dict)


def text_response(status: HTTPStatus, text: str, **headers: str) -> Response:
    """Return an answer of one line; ``Retry_After="1"`` becomes ``Retry-After: 1``."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Response(status, TEXT, f"{text}\n".encode(), named)
