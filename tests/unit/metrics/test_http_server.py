from __future__ import annotations

import http.client
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http import HTTPStatus
from pathlib import Path

import pytest

from hisparse_metrics.collector import PageCollector
from hisparse_metrics.exporter import Exporter, ExporterError, parse_listen
from hisparse_metrics.http_server import SiteServer
from hisparse_metrics.http_site import Request, Response, Site
from hisparse_metrics.page_folder import PageFolder


class StubSite(Site):
    """A site whose every answer is given by a function."""

    def __init__(self, answer: Callable[[Request], Response]) -> None:
        self._answer = answer

    def respond(self, request: Request) -> Response:
        """Answer with the function."""
        return self._answer(request)


def ok(request: Request) -> Response:
    return Response(HTTPStatus.OK, "text/plain", request.path.encode())


@contextmanager
def serving(
    answer: Callable[[Request], Response], max_requests: int = 8, request_seconds: float = 10.0
) -> Iterator[int]:
    server = SiteServer(
        "127.0.0.1", 0, StubSite(answer), max_requests=max_requests, request_seconds=request_seconds
    )
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def fetch(port: int, path: str = "/", method: str = "GET") -> http.client.HTTPResponse:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    connection.request(method, path)
    return connection.getresponse()


def assert_served_soon(port: int) -> None:
    """Ask again while the thread that just answered is still giving its place back."""
    deadline = time.monotonic() + 5
    while (status := fetch(port).status) == 503 and time.monotonic() < deadline:
        pass
    assert status == 200


def test_the_query_is_not_part_of_the_path() -> None:
    with serving(ok) as port:
        assert fetch(port, "/metrics?name[]=x").read() == b"/metrics"


def test_head_has_the_headers_and_no_body() -> None:
    with serving(ok) as port:
        response = fetch(port, "/metrics", "HEAD")
        assert (response.status, response.headers["Content-Length"], response.read()) == (200, "8", b"")


def test_a_defect_in_an_answer_is_a_500_without_details(caplog: pytest.LogCaptureFixture) -> None:
    def fail(_: Request) -> Response:
        raise RuntimeError("secret")

    with serving(fail) as port:
        response = fetch(port)
        assert response.status == 500
        assert b"secret" not in response.read()
    assert "secret" in caplog.text


def test_more_requests_than_the_bound_are_told_to_come_back() -> None:
    entered, leave = threading.Event(), threading.Event()

    def slow(request: Request) -> Response:
        entered.set()
        assert leave.wait(5)
        return ok(request)

    with serving(slow, max_requests=1) as port:
        answers: list[int] = []
        first = threading.Thread(target=lambda: answers.append(fetch(port).status))
        first.start()
        assert entered.wait(5)
        assert fetch(port).status == 503
        leave.set()
        first.join(5)
        assert answers == [200]
        assert_served_soon(port)


def test_a_client_that_trickles_is_cut_off_and_frees_its_place() -> None:
    with serving(ok, max_requests=1, request_seconds=0.2) as port:
        with socket.create_connection(("127.0.0.1", port), timeout=5) as slow:
            slow.sendall(b"GET / HTTP/1.0\r\nX-Slow: ")
            assert slow.recv(1) == b""
        assert_served_soon(port)


@pytest.mark.parametrize(
    "junk", [b"\x16\x03\x01\x02\x00", b"GET\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"\0" * 70000]
)
def test_junk_does_not_end_the_endpoint(junk: bytes) -> None:
    with serving(ok) as port:
        with socket.create_connection(("127.0.0.1", port), timeout=5) as client:
            client.sendall(junk)
        assert fetch(port).status == 200


def test_exporter_reports_the_port_it_got_and_frees_it(tmp_path: Path) -> None:
    collector = PageCollector(PageFolder(tmp_path))
    with Exporter(collector, port=0) as exporter:
        assert exporter.port > 0
        assert exporter.url == f"http://127.0.0.1:{exporter.port}"
        assert fetch(exporter.port, "/healthz").status == 200
        port = exporter.port
    exporter.close()
    with Exporter(collector, port=port):
        assert fetch(port, "/healthz").status == 200


@pytest.mark.skipif(not socket.has_ipv6, reason="no IPv6")
def test_exporter_speaks_ipv6(tmp_path: Path) -> None:
    with Exporter(PageCollector(PageFolder(tmp_path)), "::1", 0) as exporter:
        assert exporter.url == f"http://[::1]:{exporter.port}"
        with socket.create_connection(("::1", exporter.port), timeout=5) as client:
            client.sendall(b"GET /healthz HTTP/1.0\r\n\r\n")
            assert client.recv(15) == b"HTTP/1.0 200 OK"


def test_port_in_use_names_port_reason_and_remedy(tmp_path: Path) -> None:
    collector = PageCollector(PageFolder(tmp_path))
    with Exporter(collector, port=0) as exporter, pytest.raises(ExporterError) as refused:
        Exporter(collector, port=exporter.port).start()
    message = str(refused.value)
    assert f"127.0.0.1:{exporter.port}: the port is in use" in message or "the port is in use" in message
    assert "--listen HOST:PORT" in message


def test_unknown_host_is_an_exporter_error(tmp_path: Path) -> None:
    for host in ("256.1.1.1.invalid", "a" * 70 + ".b"):
        with pytest.raises(ExporterError, match="cannot listen on"):
            Exporter(PageCollector(PageFolder(tmp_path)), host, 0).start()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("127.0.0.1:9477", ("127.0.0.1", 9477)),
        ("[::1]:0", ("::1", 0)),
        (":9477", ("", 9477)),
        ("metrics.example:65535", ("metrics.example", 65535)),
    ],
)
def test_listen_addresses(text: str, expected: tuple[str, int]) -> None:
    assert parse_listen(text) == expected


@pytest.mark.parametrize(
    "text", ["", "9477", "host:", "host:65536", "host:-1", "host:x", "::1:9477", "[::1]", "h:٣"]
)
def test_other_listen_addresses_are_refused(text: str) -> None:
    with pytest.raises(ExporterError, match="expected HOST:PORT"):
        parse_listen(text)
