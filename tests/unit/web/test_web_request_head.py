from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from hisparse_metrics.web.request_head import MAX_HEADERS, BadRequestError, parse_head

HOST = b"\r\nHost: x"
TOKENS = st.text("abcXYZ-_.!~", min_size=1, max_size=10)
VALUES = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), max_size=20)


def path_of(target: bytes) -> str:
    return parse_head(b"GET " + target + b" HTTP/1.1" + HOST).path


@pytest.mark.parametrize(
    ("target", "path"),
    [
        (b"/metrics", "/metrics"),
        (b"/metrics?name[]=x#y", "/metrics"),
        (b"http://host:1/metrics?x", "/metrics"),
        (b"HTTPS://host", "/"),
        (b"?x", "/"),
        (b"//host/metrics", "//host/metrics"),
        (b"/../etc/passwd", "/../etc/passwd"),
        (b"/%2e%2e/etc/passwd", "/%2e%2e/etc/passwd"),
        (b"*", "*"),
    ],
)
def test_path_is_taken_as_sent_without_query(target: bytes, path: str) -> None:
    assert path_of(target) == path


@pytest.mark.parametrize(
    ("raw", "status"),
    [
        (b"", 400),
        (b"GET", 400),
        (b"GET /", 400),
        (b"GET / HTTP/1.1", 400),
        (b"GET  / HTTP/1.1" + HOST, 400),
        (b" GET / HTTP/1.1" + HOST, 400),
        (b"G\x00T / HTTP/1.1" + HOST, 400),
        (b"GET /\x7f HTTP/1.1" + HOST, 400),
        (b"GET / HTTP/1.1 " + HOST, 400),
        (b"GET / http/1.1" + HOST, 400),
        (b"GET / HTTP/11.1" + HOST, 400),
        (b"GET / HTTP/2.0" + HOST, 505),
        (b"GET / HTTP/1.1" + HOST + HOST, 400),
        (b"GET / HTTP/1.1" + HOST + b"\r\nAuthorization: a\r\nAuthorization: b", 400),
        (b"GET / HTTP/1.1" + HOST + b"\r\n folded", 400),
        (b"GET / HTTP/1.1" + HOST + b"\r\nName : value", 400),
        (b"GET / HTTP/1.1" + HOST + b"\r\nno colon", 400),
        (b"GET / HTTP/1.1" + HOST + b"\r\nX: a\x00b", 400),
        (b"GET / HTTP/1.1" + HOST + b"\r\nX: a\rb", 400),
        (b"GET / HTTP/1.1" + HOST + b"\r\nX: y" * MAX_HEADERS, 431),
    ],
)
def test_what_is_no_request_is_refused(raw: bytes, status: int) -> None:
    with pytest.raises(BadRequestError) as refused:
        parse_head(raw)
    assert refused.value.status == status


@pytest.mark.parametrize(
    ("raw", "stays"),
    [
        (b"GET / HTTP/1.1" + HOST, True),
        (b"GET / HTTP/1.1\nHost: x", True),
        (b"GET / HTTP/1.1" + HOST + b"\r\nContent-Length: 0", True),
        (b"GET / HTTP/1.1" + HOST + b"\r\nConnection: keep-alive, Close", False),
        (b"POST / HTTP/1.1" + HOST + b"\r\nContent-Length: 1", False),
        (b"POST / HTTP/1.1" + HOST + b"\r\nTransfer-Encoding: chunked", False),
        (b"GET / HTTP/1.0", False),
        (b"GET / HTTP/1.0\r\nConnection: keep-alive", False),
    ],
)
def test_a_connection_stays_only_where_the_next_request_is_sure_to_start(raw: bytes, stays: bool) -> None:
    assert parse_head(raw).keep_alive is stays


@given(TOKENS, st.dictionaries(TOKENS.map(lambda name: f"x-{name}"), VALUES, max_size=8))
def test_what_was_written_is_read(method: str, headers: dict[str, str]) -> None:
    lines = [
        f"{method} /path HTTP/1.1",
        "Host: x",
        *(f"{name}:  {value}\t" for name, value in headers.items()),
    ]
    head = parse_head("\r\n".join(lines).encode())
    merged: dict[str, list[str]] = {}
    for name, value in headers.items():
        merged.setdefault(name.lower(), []).append(value)
    assert head.method == method
    assert head.headers == {"host": "x"} | {name: ", ".join(values) for name, values in merged.items()}


@given(st.binary(max_size=300) | st.binary(max_size=100).map(lambda tail: b"GET / HTTP/1.1\r\n" + tail))
@example(b"\xff" * 100)
def test_any_bytes_are_a_request_or_refused(raw: bytes) -> None:
    path = "/"
    with suppress(BadRequestError):
        path = parse_head(raw).path
    assert path
    assert not any(character in path for character in "\r\n ")
