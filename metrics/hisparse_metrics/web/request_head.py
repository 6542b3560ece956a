"""The head of an HTTP/1.x request, from its bytes: strict about what could mislead, small about the rest.

Knows no socket. Bodies are never read: a request that announces one is answered, then its connection ends.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from http import HTTPStatus

MAX_HEADERS = 100
END_OF_HEAD = re.compile(rb"\r?\n\r?\n")
_TOKEN = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"  # noqa: S105 - RFC 9110's word for it
_REQUEST_LINE = re.compile(rf"({_TOKEN}) ([!-~\x80-\xff]+) HTTP/(\d)\.(\d)", re.ASCII)
_HEADER = re.compile(rf"({_TOKEN}):[ \t]*([\t -~\x80-\xff]*)", re.ASCII)
_ABSOLUTE = re.compile(r"https?://[^/?#]*", re.IGNORECASE)
_SINGLE = ("host", "authorization")


class BadRequestError(Exception):
    """A head that gets ``status`` as its answer, and the end of its connection."""

    def __init__(self, status: HTTPStatus, reason: str) -> None:
        super().__init__(reason)
        self.status = status


@dataclass(frozen=True, slots=True)
class RequestHead:
    """A request's head. ``path`` and ``query`` are as sent; header names are lower case."""

    method: str
    path: str
    query: str
    headers: dict[str, str]
    keep_alive: bool


def parse_head(raw: bytes) -> RequestHead:
    """Parse the bytes before the empty line; :class:`BadRequestError` when they are no request."""
    first, *lines = raw.decode("latin-1").replace("\r\n", "\n").split("\n")
    found = _REQUEST_LINE.fullmatch(first)
    if found is None:
        raise BadRequestError(HTTPStatus.BAD_REQUEST, "malformed request line")
    method, target, major, minor = found.groups()
    if major != "1":
        raise BadRequestError(HTTPStatus.HTTP_VERSION_NOT_SUPPORTED, "only HTTP/1.0 and HTTP/1.1")
    headers = _headers(lines)
    if minor != "0" and "host" not in headers:
        raise BadRequestError(HTTPStatus.BAD_REQUEST, "no Host header")
    return RequestHead(method, *_split(target), headers, minor != "0" and _may_stay(headers))


def _headers(lines: list[str]) -> dict[str, str]:
    if len(lines) > MAX_HEADERS:
        raise BadRequestError(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, f"more than {MAX_HEADERS} headers")
    headers: dict[str, str] = {}
    for line in lines:
        name, value = _header(line)
        if name in headers and name in _SINGLE:
            raise BadRequestError(HTTPStatus.BAD_REQUEST, "a header that may occur once is repeated")
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    return headers


def _header(line: str) -> tuple[str, str]:
    found = _HEADER.fullmatch(line)
    if found is None:
        raise BadRequestError(HTTPStatus.BAD_REQUEST, "malformed header")
    return found[1].lower(), found[2].rstrip(" \t")


def _split(target: str) -> tuple[str, str]:
    """Return path and query of an origin-form or absolute-form target. Nothing is decoded, so nothing can be hidden."""
    absolute = _ABSOLUTE.match(target)
    path, _, query = (target[absolute.end() :] if absolute else target).partition("#")[0].partition("?")
    return path or "/", query


def _may_stay(headers: dict[str, str]) -> bool:
    options = {option.strip().lower() for option in headers.get("connection", "").split(",")}
    has_body = "transfer-encoding" in headers or headers.get("content-length", "0") != "0"
    return "close" not in options and not has_body
