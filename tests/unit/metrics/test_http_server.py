from __future__ import annotations

import http.client
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from http import HTTPStatus
from pathlib import Path

import pytest

from hisparse_metrics.collector import PageCollector
from hisparse_metrics.exporter import Exporter, ExporterError, parse_listen
from hisparse_metrics.http_server import SiteServer
from hisparse_metrics.page_folder import PageFolder
from hisparse_metrics.web.limits import Limits
from hisparse_metrics.web.listen import open_listener
from hisparse_metrics.web.messages import Request, Response
from hisparse_metrics.web.policy import PolicyFile


def ok(request: Request) -> Response:
    return Response(HTTPStatus.OK, "text/plain", request.path.encode())


@contextmanager
def serving(answer: Callable[[Request], Response], limits: Limits | None = None) -> Iterator[int]:
    listener = open_listener("127.0.0.1", 0)
    server = SiteServer([listener], answer, PolicyFile(None), limits or Limits())
    port: int = listener.getsockname()[1]
    server.start()
    try:
        yield port
    finally:
        server.close()


def exchange(port: int, sent: bytes) -> bytes:
    """Send bytes and return all that comes back until the server closes."""
    with socket.create_connection(("127.0.0.1", port), timeout=5) as client:
        client.sendall(sent)
        client.shutdown(socket.SHUT_WR)
        return b"".join(iter(lambda: client.recv(65536), b""))


def fetch(port: int, path: str = "/", method: str = "GET") -> http.client.HTTPResponse:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    connection.request(method, path)
    return connection.getresponse()


def num_descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


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

    with serving(slow, Limits(max_connections=1)) as port:
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
    with (
        serving(ok, Limits(head_seconds=0.2)) as port,
        socket.create_connection(("127.0.0.1", port), timeout=5) as slow,
    ):
        slow.sendall(b"GET / HTTP/1.0\r\nX-Slow: ")
        assert slow.recv(1) == b""


def test_trickling_does_not_win_time() -> None:
    with (
        serving(ok, Limits(head_seconds=0.5)) as port,
        socket.create_connection(("127.0.0.1", port), timeout=5) as slow,
    ):
        started, ended = time.monotonic(), threading.Event()

        def trickle() -> None:
            while not ended.wait(0.05):
                slow.send(b"X")

        sender = threading.Thread(target=trickle)
        sender.start()
        try:
            assert slow.recv(1) == b""
        finally:
            ended.set()
            sender.join()
        assert time.monotonic() - started < 3


def test_more_slow_clients_than_places_do_not_keep_a_scrape_out() -> None:
    with serving(ok, Limits(max_connections=8)) as port, ExitStack() as clients:
        slow = [
            clients.enter_context(socket.create_connection(("127.0.0.1", port), timeout=5)) for _ in range(40)
        ]
        for client in slow:
            with suppress(ConnectionError):
                client.sendall(b"GET /metrics HTTP/1.1\r\nHost:")
        started = time.monotonic()
        assert fetch(port, "/metrics").status == 200
        assert time.monotonic() - started < 2


def test_a_client_that_does_not_read_loses_its_place() -> None:
    def large(_: Request) -> Response:
        return Response(HTTPStatus.OK, "text/plain", bytes(32 << 20))

    limits = Limits(max_connections=1, write_grace_seconds=0.0)
    with serving(large, limits) as port, socket.create_connection(("127.0.0.1", port), timeout=5) as slow:
        slow.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert slow.recv(15) == b"HTTP/1.1 200 OK"
        assert len(fetch(port).read()) == 32 << 20


def test_a_client_that_does_not_read_is_cut_off_in_the_end() -> None:
    def large(_: Request) -> Response:
        return Response(HTTPStatus.OK, "text/plain", bytes(32 << 20))

    with (
        serving(large, Limits(write_seconds=0.2)) as port,
        socket.create_connection(("127.0.0.1", port), timeout=5) as slow,
    ):
        slow.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        time.sleep(0.6)
        received = b"".join(iter(lambda: slow.recv(1 << 20), b""))
        assert 0 < len(received) < 32 << 20


def test_a_connection_serves_many_requests() -> None:
    with serving(ok) as port:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
        connection.connect()
        before = connection.sock
        for path in ("/a", "/b", "/c"):
            connection.request("GET", path)
            assert connection.getresponse().read() == path.encode()
        assert connection.sock is before


def test_requests_sent_together_are_answered_in_order() -> None:
    with serving(ok) as port:
        answers = exchange(port, b"GET /a HTTP/1.1\r\nHost: x\r\n\r\nGET /b HTTP/1.1\r\nHost: x\r\n\r\n")
    assert [part[-2:] for part in answers.split(b"HTTP/1.1 200 OK")[1:]] == [b"/a", b"/b"]


def test_an_answer_to_head_does_not_shift_the_next_one() -> None:
    with serving(ok) as port:
        answers = exchange(port, b"HEAD /a HTTP/1.1\r\nHost: x\r\n\r\nGET /b HTTP/1.1\r\nHost: x\r\n\r\n")
    head, _, rest = answers.partition(b"\r\n\r\n")
    assert b"Content-Length: 2" in head
    assert rest.startswith(b"HTTP/1.1 200 OK")


def test_an_idle_connection_ends() -> None:
    with (
        serving(ok, Limits(idle_seconds=0.1)) as port,
        socket.create_connection(("127.0.0.1", port), timeout=5) as client,
    ):
        client.sendall(b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n")
        assert b"".join(iter(lambda: client.recv(4096), b"")).endswith(b"/a")


@pytest.mark.parametrize(
    ("request_head", "status"),
    [
        (b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nGET / HTTP/1.1\r\n\r\n", b"200"),
        (b"GET / HTTP/1.0\r\n\r\n", b"200"),
        (b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", b"200"),
        (b"GET / HTTP/1.1\r\n\r\n", b"400"),
        (b"GET /\r\n\r\n", b"400"),
        (b"GET / HTTP/2.0\r\n\r\n", b"505"),
        (b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"x" * 40_000 + b"\r\n\r\n", b"431"),
        (b"GET / HTTP/1.1\r\nHost: x\r\n" + b"X: y\r\n" * 101 + b"\r\n", b"431"),
        (b"GET /" + b"x" * 200_000, b"431"),
    ],
)
def test_one_answer_then_the_end(request_head: bytes, status: bytes) -> None:
    with serving(ok) as port:
        answer = exchange(port, request_head)
        assert answer[:12] == b"HTTP/1.1 " + status
        assert answer.count(b"Server: ") == 1
        assert b"Connection: close" in answer
        assert fetch(port).status == 200


def test_no_descriptor_and_no_thread_is_left_behind() -> None:
    with serving(ok) as port:
        fetch(port).close()
        before = num_descriptors()
        for _ in range(20):
            exchange(port, b"GET / HTTP/1.0\r\n\r\n")
        deadline = time.monotonic() + 5
        while num_descriptors() > before and time.monotonic() < deadline:
            pass
        assert num_descriptors() <= before
    assert not [thread for thread in threading.enumerate() if thread.name == "hisparse-exporter"]


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
            assert client.recv(15) == b"HTTP/1.1 200 OK"


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
