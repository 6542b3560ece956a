"""Addresses, passwords, certificates and refusals; and which source is taken when none is named."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from hisparse_metrics.collector import PageCollector
from hisparse_metrics.exporter import Exporter
from hisparse_metrics.page_folder import PageFolder
from hisparse_metrics.top.choose import choose_source
from hisparse_metrics.top.reading import ReadError, TopError
from hisparse_metrics.top.url import Address, UrlSource, parse_address
from tests.unit.metrics.support import published
from tests.unit.web.support import Authority, basic, bcrypt_hash, exporter_of

LINE = 'hisparse_host_tokens{engine_name="a"} 7\n'


@contextmanager
def answering(status: int, content_type: str, body: bytes, **headers: str) -> Iterator[tuple[str, list[str]]]:
    """Serve one answer to everybody; yield the address, and the authorizations that came."""
    seen: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            seen.append(self.headers.get("Authorization", ""))
            self.send_response(status)
            for name, value in {"Content-Type": content_type, **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", seen
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def source_of(url: str, timeout: float = 5.0) -> UrlSource:
    return UrlSource(parse_address(url), timeout=timeout)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("gpu-7:9477", Address("http://gpu-7:9477/metrics")),
        ("http://gpu-7:9477/", Address("http://gpu-7:9477/metrics")),
        ("https://gpu-7/own/path?x=1", Address("https://gpu-7/own/path?x=1")),
        ("http://gpu-7:8000/metrics/", Address("http://gpu-7:8000/metrics/")),
        ("[::1]:9477", Address("http://[::1]:9477/metrics")),
        ("http://ops:s%40crt@gpu-7:9477", Address("http://gpu-7:9477/metrics", "ops", "s@crt")),
    ],
)
def test_addresses(text: str, expected: Address) -> None:
    assert parse_address(text) == expected


@pytest.mark.parametrize(
    "text", ["", "ftp://gpu-7/", "http://", "gpu-7:port", "http://gpu-7:99999", "file:///etc/passwd"]
)
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(TopError, match="not an address; give http://HOST:PORT"):
        parse_address(text)


def test_a_refused_address_does_not_show_its_password() -> None:
    with pytest.raises(TopError) as refused:
        parse_address("ftp://ops:secret@gpu-7/")
    assert "secret" not in str(refused.value)
    assert "secret" not in repr(parse_address("http://ops:secret@gpu-7/"))
    assert "secret" not in source_of("http://ops:secret@gpu-7/").about


def test_a_password_file(tmp_path: Path) -> None:
    file = tmp_path / "pw"
    file.write_text("s@crt \n")
    assert parse_address("https://ops@gpu-7", file) == Address("https://gpu-7/metrics", "ops", "s@crt ")
    for address in ("https://gpu-7", "https://ops:other@gpu-7"):
        with pytest.raises(TopError, match="needs a user and no password"):
            parse_address(address, file)
    with pytest.raises(TopError, match="No such file"):
        parse_address("https://ops@gpu-7", tmp_path / "none")


def test_an_exporter_behind_tls_and_a_password(tmp_path: Path) -> None:
    pytest.importorskip("yaml")
    authority, other = Authority(tmp_path / "ca"), Authority(tmp_path / "other")
    certificate, key = authority.issue("server")
    config = (
        f"tls_server_config: {{cert_file: {certificate}, key_file: {key}}}\n"
        f"basic_auth_users:\n  ops: {bcrypt_hash('secret')}\n"
    )
    recorder = published(tmp_path / "stats")
    with exporter_of(tmp_path, config) as exporter:
        place = exporter.url.removeprefix("https://")
        good = parse_address(f"https://ops:secret@{place}")
        [rank] = UrlSource(good, authority.certificate).read().ranks
        assert rank.key.engine_name == "test"
        for source, reason in (
            (UrlSource(good), r"certificate is not trusted \(.*\); name its authority with --ca-file"),
            (UrlSource(good, other.certificate), "certificate is not trusted"),
            (UrlSource(parse_address(f"https://{place}"), authority.certificate), "another user or password"),
            (UrlSource(parse_address(f"http://{place}")), "https://"),
        ):
            with pytest.raises(ReadError, match=reason):
                source.read()
    recorder.close()


def test_a_ca_file_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("nonsense")
    with pytest.raises(TopError, match="no certificate in PEM form"):
        UrlSource(parse_address("https://gpu-7"), tmp_path / "ca.pem")
    with pytest.raises(TopError, match="No such file"):
        UrlSource(parse_address("https://gpu-7"), tmp_path / "none.pem")


@pytest.mark.parametrize(
    ("status", "content_type", "body", "reason"),
    [
        (404, "text/plain", b"", r"no metrics under this path \(404\)"),
        (401, "text/plain", b"", "--password-file"),
        (500, "text/plain", b"", "it answers 500"),
        (200, "text/html; charset=utf-8", b"<html>", "a page for browsers"),
        (200, "text/plain", b"hisparse_host_tokens{engine_name=\"a\"} many\n", "cannot be parsed"),
    ],
)  # fmt: skip
def test_answers_that_are_no_metrics(status: int, content_type: str, body: bytes, reason: str) -> None:
    with answering(status, content_type, body) as (url, _), pytest.raises(ReadError, match=reason):
        source_of(url).read()


def test_metrics_of_something_else_are_no_error() -> None:
    with answering(200, "text/plain", b"node_load1 0.3\n") as (url, _):
        assert source_of(url).read().note == f"{url}/metrics has no HiSparse metrics yet"


def test_a_password_does_not_follow_a_redirect() -> None:
    with (
        answering(200, "text/plain", LINE.encode()) as (other, seen),
        answering(302, "text/plain", b"", Location=f"{other}/metrics") as (url, asked),
    ):
        place = url.removeprefix("http://")
        assert len(source_of(f"http://ops:secret@{place}").read().ranks) == 1
    assert (asked, seen) == ([basic("ops", "secret")], [""])


def test_nobody_there_and_nobody_answering() -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as silent:
        port = silent.getsockname()[1]
        with pytest.raises(ReadError, match=r"no answer within 0.1 s"):
            source_of(f"127.0.0.1:{port}", timeout=0.1).read()
    with pytest.raises(ReadError, match="connection refused; nothing listens there"):
        source_of(f"127.0.0.1:{port}").read()
    with pytest.raises(ReadError, match="no such host"):
        source_of("nobody.invalid:9477").read()


def test_what_is_taken(tmp_path: Path) -> None:
    folder = {"HISPARSE_STATS_DIR": str(tmp_path / "environment")}
    assert choose_source("gpu-7:1", None, environ=folder).about == "http://gpu-7:1/metrics"
    assert choose_source(None, tmp_path, environ=folder).about == str(tmp_path)
    assert choose_source(None, None, environ=folder).about == str(tmp_path / "environment")
    for arguments in (("gpu-7:1", tmp_path, None), (None, tmp_path, tmp_path), (None, None, tmp_path)):
        url, stats_dir, password = arguments
        with pytest.raises(TopError):
            choose_source(url, stats_dir, password_file=password)


def test_the_usual_exporter_is_taken_only_when_it_answers_with_ranks(tmp_path: Path) -> None:
    recorder = published(tmp_path / "stats")
    home = {"XDG_RUNTIME_DIR": str(tmp_path)}
    with Exporter(PageCollector(PageFolder(tmp_path / "stats")), port=0) as full:
        assert choose_source(None, None, environ=home, default_url=full.metrics_url).about == full.metrics_url
    with Exporter(PageCollector(PageFolder(tmp_path / "empty")), port=0) as empty:
        assert "://" not in choose_source(None, None, environ=home, default_url=empty.metrics_url).about
    assert "://" not in choose_source(None, None, environ=home, default_url=nobody()).about
    recorder.close()


def nobody() -> str:
    """Return an address where nothing listens."""
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        return f"http://127.0.0.1:{taken.getsockname()[1]}/metrics"
