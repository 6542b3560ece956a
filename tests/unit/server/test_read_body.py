"""Bodies are refused by type and size while they come, and by form when they are there."""

from __future__ import annotations

import asyncio
import json
from http import HTTPStatus
from typing import Any

import pytest
from starlette.requests import Request
from starlette.types import Receive

from hisparse_engine.server import read_body
from hisparse_engine.server.errors import ApiError
from hisparse_engine.server.read_body import read_json

LIMIT = 100
JSON = {"content-type": "application/json"}


def read(parts: list[bytes], headers: dict[str, str] | None = None, limit: int = LIMIT) -> dict[str, Any]:
    """Read a body that comes in ``parts``."""
    waiting = list(parts)

    async def receive() -> dict[str, Any]:
        part = waiting.pop(0)
        return {"type": "http.request", "body": part, "more_body": bool(waiting)}

    return asyncio.run(read_json(request_with(receive, headers), limit))


def request_with(receive: Receive, headers: dict[str, str] | None = None) -> Request:
    raw = [(name.encode(), value.encode()) for name, value in (JSON if headers is None else headers).items()]
    return Request({"type": "http", "method": "POST", "path": "/", "headers": raw}, receive)


def refused(parts: list[bytes], headers: dict[str, str] | None = None, limit: int = LIMIT) -> ApiError:
    with pytest.raises(ApiError) as raised:
        read(parts, headers, limit)
    return raised.value


@pytest.mark.parametrize("content_type", ["application/json", "Application/JSON; charset=utf-8"])
def test_json_is_read(content_type: str) -> None:
    assert read([b'{"a"', b": 1}"], {"content-type": content_type}) == {"a": 1}


@pytest.mark.parametrize(
    "content_type", ["", "text/plain", "application/x-www-form-urlencoded", "multipart/form-data"]
)
def test_another_type_is_refused(content_type: str) -> None:
    assert refused([b"{}"], {"content-type": content_type}).status == HTTPStatus.UNSUPPORTED_MEDIA_TYPE


def test_the_limit_itself_is_allowed() -> None:
    body = json.dumps({"a": "x" * (LIMIT - 9)}).encode()
    assert len(body) == LIMIT
    assert read([body])
    assert refused([body + b" "]).status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE


@pytest.mark.parametrize("headers", [JSON, JSON | {"content-length": "5000"}])
def test_a_body_that_is_too_large_is_not_kept(headers: dict[str, str]) -> None:
    error = refused([b"[" * 60] * 50, headers)
    assert error.status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE
    assert "--max-body-bytes" in str(error)


def test_a_body_without_end_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(read_body, "_DISCARD_BYTES", 1000)
    num_read = 0

    async def endless() -> dict[str, Any]:
        nonlocal num_read
        num_read += 60
        assert num_read < 10_000, "it is read for ever"
        return {"type": "http.request", "body": b"[" * 60, "more_body": True}

    with pytest.raises(ApiError) as raised:
        asyncio.run(read_json(request_with(endless), LIMIT))
    assert raised.value.status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE


def test_a_body_that_does_not_come_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(read_body, "BODY_SECONDS", 0.01)

    async def never() -> dict[str, Any]:
        await asyncio.Event().wait()
        raise AssertionError

    with pytest.raises(ApiError) as raised:
        asyncio.run(read_json(request_with(never), LIMIT))
    assert raised.value.status == HTTPStatus.REQUEST_TIMEOUT


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[1]", b"3", b"null", b"\xff", b'{"a": "\\ud800"}', b"[" * 90, b'{"a": ' + b"9" * 80]
)
def test_what_is_no_json_object_is_refused(body: bytes) -> None:
    error = refused([body])
    assert (error.status, error.body["error"]["code"]) == (HTTPStatus.BAD_REQUEST, "invalid_json")


def test_a_whole_surrogate_pair_is_a_character() -> None:
    assert read([b'{"a": "\\ud83d\\ude42"}']) == {"a": "\U0001f642"}


def test_deep_nesting_is_refused() -> None:
    body = b'{"a":' * 100_000 + b"1" + b"}" * 100_000
    assert refused([body], limit=len(body)).body["error"]["code"] == "invalid_json"
