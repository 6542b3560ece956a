"""A request's JSON body: its type, its size while it comes, its form. Nothing larger than the limit is ever held."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from email.message import Message
from http import HTTPStatus
from typing import Any

from starlette.requests import Request

from hisparse_engine.server.errors import ApiError, bad_request

BODY_SECONDS = 60.0
"""A body that takes longer than this to come is given up."""
_DISCARD_BYTES = 64 << 20
"""So much of a body that is too large is still read, and thrown away, so that its sender gets to read the answer."""


async def read_json(request: Request, limit: int) -> dict[str, Any]:
    """Return the JSON object in the body; :class:`ApiError` for anything else."""
    _check_content_type(request.headers.get("content-type", ""))
    try:
        async with asyncio.timeout(BODY_SECONDS):
            raw = await _read(request, limit)
    except TimeoutError:
        message = f"the body did not come within {BODY_SECONDS:g} s"
        raise ApiError(HTTPStatus.REQUEST_TIMEOUT, message, code="body_timeout") from None
    return _parse(raw)


def _check_content_type(header: str) -> None:
    message = Message()
    message["content-type"] = header
    if message.get_content_type() != "application/json":
        raise ApiError(
            HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
            f"Content-Type: must be application/json, got {header[:100]!r}",
            code="unsupported_media_type",
        )


async def _read(request: Request, limit: int) -> bytes:
    announced = request.headers.get("content-length", "")
    parts: list[bytes] | None = [] if not announced.isdigit() or int(announced) <= limit else None
    size = 0
    async for part in _limited(request.stream(), limit):
        size += len(part)
        if size > limit:
            parts = None
        if parts is not None:
            parts.append(part)
    if parts is None:
        raise ApiError(
            HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
            f"the body is larger than {limit} bytes; send less, or raise --max-body-bytes",
            code="body_too_large",
        )
    return b"".join(parts)


async def _limited(stream: AsyncIterator[bytes], limit: int) -> AsyncIterator[bytes]:
    """Stop reading where even throwing away would be too much."""
    size = 0
    async for part in stream:
        yield part
        size += len(part)
        if size > limit + _DISCARD_BYTES:
            return


def _parse(raw: bytes) -> dict[str, Any]:
    try:
        body = json.loads(raw)
        if b"\\ud" in raw.lower():  # JSON can spell what Unicode cannot
            json.dumps(body, ensure_ascii=False).encode()
    except RecursionError:
        raise bad_request("the body is nested too deeply", code="invalid_json") from None
    except UnicodeEncodeError:
        raise bad_request(
            "a string has half of a surrogate pair, which is no character", code="invalid_json"
        ) from None
    except ValueError as error:  # of JSON, of UTF-8, or a number of thousands of digits
        raise bad_request(f"the body is not JSON: {error}", code="invalid_json") from None
    if not isinstance(body, dict):
        raise bad_request(f"the body must be a JSON object, got {type(body).__name__}", code="invalid_json")
    return body
