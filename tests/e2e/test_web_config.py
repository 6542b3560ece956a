"""``hisparse exporter`` on a network: real clients, TLS, passwords, slow and hostile ones."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from tests.support.prometheus import PrometheusServer
from tests.unit.metrics.support import published
from tests.unit.web.support import Answer, Authority, bcrypt_hash, get

CLI = [sys.executable, "-c", "from hisparse_engine.cli import main; main(prog_name='hisparse')", "exporter"]
TLS = "tls_server_config: {cert_file: ca/server.pem, key_file: ca/server.key}\n"
MUTUAL = (
    "tls_server_config: {cert_file: ca/server.pem, key_file: ca/server.key, client_ca_file: ca/ca.pem,"
    " client_auth_type: RequireAndVerifyClientCert}\n"
)


@contextmanager
def exporting(
    *arguments: str | Path, wrap: tuple[str, ...] = ()
) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """Run ``hisparse exporter`` on a free port, unless the arguments say otherwise; yield its URL and process."""
    listen = () if "--web.systemd-socket" in arguments else ("--web.listen-address=127.0.0.1:0",)
    command = [*wrap, *CLI, *listen, *map(str, arguments)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        assert process.stderr is not None
        line = process.stdout.readline()
        found = re.match(r"serving (\S+) from ", line)
        assert found, line + process.stderr.read()
        yield found[1], process
    finally:
        process.kill()
        process.communicate(timeout=10)


@pytest.fixture
def stats(tmp_path: Path) -> Iterator[Path]:
    recorder = published(tmp_path / "stats")
    yield tmp_path / "stats"
    recorder.close()


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    authority = Authority(tmp_path / "ca")
    authority.issue("server")
    return authority


def web_config(folder: Path, text: str) -> Path:
    pytest.importorskip("yaml")
    fresh, path = folder / "web.yaml.new", folder / "web.yaml"
    fresh.write_text(text)
    fresh.chmod(0o600)
    return fresh.replace(path)


def users(**passwords: str) -> str:
    return "basic_auth_users:\n" + "".join(f"  {u}: {bcrypt_hash(p)}\n" for u, p in passwords.items())


def curl(url: str, *arguments: str | Path) -> tuple[int, str]:
    """Return the status (0: no HTTP answer) and body that curl gets."""
    if shutil.which("curl") is None:
        pytest.skip("curl is not on PATH")
    command = [
        "curl",
        "--silent",
        "--max-time",
        "20",
        "--write-out",
        "\n%{http_code}",
        *map(str, arguments),
        url,
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    body, _, status = done.stdout.rpartition("\n")
    return int(status), body


def port_of(url: str) -> int:
    found = re.search(r":(\d+)/", url)
    assert found is not None
    return int(found[1])


def scrape_config(url: str, **fields: object) -> dict[str, object]:
    target = f"127.0.0.1:{port_of(url)}"
    scheme = url.partition(":")[0]
    return {"job_name": "hisparse", "scheme": scheme, "static_configs": [{"targets": [target]}], **fields}


def test_curl_with_tls_and_password(tmp_path: Path, stats: Path, authority: Authority) -> None:
    config = web_config(tmp_path, TLS + users(alice="right"))
    with exporting("--stats-dir", stats, "--web.config.file", config) as (url, _):
        assert url.startswith("https://127.0.0.1:")
        trust = ("--cacert", authority.certificate)
        status, body = curl(url, *trust, "--user", "alice:right")
        assert status == 200
        assert "hisparse_engine_up{" in body
        for credentials in ((), ("--user", "alice:wrong"), ("--user", "mallory:right")):
            status, body = curl(url, *trust, *credentials)
            assert (status, "hisparse_" in body) == (401, False)
        assert curl(url, "--user", "alice:right") == (0, "")
        assert curl(url.replace("https", "http"), "--user", "alice:right") == (0, "")


def test_users_and_certificates_change_without_a_restart(
    tmp_path: Path, stats: Path, authority: Authority
) -> None:
    config = web_config(tmp_path, TLS + users(alice="old"))
    with exporting("--stats-dir", stats, "--web.config.file", config) as (url, _):
        assert curl(url, "--cacert", authority.certificate, "--user", "alice:old")[0] == 200
        web_config(tmp_path, TLS + users(alice="new"))
        other = Authority(tmp_path / "other")
        for fresh, there in zip(other.issue("server"), ("server.pem", "server.key"), strict=True):
            fresh.replace(tmp_path / "ca" / there)
        assert curl(url, "--cacert", authority.certificate, "--user", "alice:new")[0] == 0
        assert curl(url, "--cacert", other.certificate, "--user", "alice:old")[0] == 401
        assert curl(url, "--cacert", other.certificate, "--user", "alice:new")[0] == 200


def test_prometheus_scrapes_with_tls_and_password(tmp_path: Path, stats: Path, authority: Authority) -> None:
    config = web_config(tmp_path, TLS + users(alice="right"))
    tls = {"ca_file": str(authority.certificate)}
    with exporting("--stats-dir", stats, "--web.config.file", config) as (url, _):
        right = scrape_config(url, tls_config=tls, basic_auth={"username": "alice", "password": "right"})
        wrong = scrape_config(url, tls_config=tls, basic_auth={"username": "alice", "password": "wrong"})
        scrape_configs = [right, wrong | {"job_name": "wrong"}]
        with PrometheusServer(config={"scrape_configs": scrape_configs}) as prometheus:
            [sample] = prometheus.wait_for("hisparse_engine_up")
            assert sample.value == 1
            assert [s.value for s in prometheus.wait_for('up{job="wrong"}')] == [0]
            assert [s.value for s in prometheus.wait_for('up{job="hisparse"}')] == [1]


def test_prometheus_scrapes_with_its_certificate(tmp_path: Path, stats: Path, authority: Authority) -> None:
    config = web_config(tmp_path, MUTUAL)
    certificate, key = authority.issue("prometheus")
    tls = {"ca_file": str(authority.certificate)}
    known = tls | {"cert_file": str(certificate), "key_file": str(key)}
    with exporting("--stats-dir", stats, "--web.config.file", config) as (url, _):
        scrape_configs = [
            scrape_config(url, tls_config=known),
            scrape_config(url, tls_config=tls) | {"job_name": "wrong"},
        ]
        with PrometheusServer(config={"scrape_configs": scrape_configs}) as prometheus:
            assert [s.value for s in prometheus.wait_for("hisparse_engine_up")] == [1]
            assert [s.value for s in prometheus.wait_for('up{job="wrong"}')] == [0]


def test_slow_and_oversized_clients_do_not_block_a_scrape(stats: Path) -> None:
    with exporting("--stats-dir", stats) as (url, _), ExitStack() as clients:
        address = ("127.0.0.1", port_of(url))
        for number in range(600):
            client = clients.enter_context(socket.create_connection(address, timeout=5))
            with suppress(ConnectionError):
                client.sendall(b"GET /metrics HTTP/1.1\r\nX-Slow: " + b"x" * (20_000 if number % 2 else 1))
        started = time.monotonic()
        assert get(url).status == 200
        assert time.monotonic() - started < 5


def test_hostile_requests_get_their_status(stats: Path, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("treasure")
    with exporting("--stats-dir", stats) as (url, _):
        base = url.removesuffix("/metrics")
        for path in (
            "/../secret",
            "/stats/../../secret",
            "/%2e%2e/secret",
            "/metrics/../../secret",
            "//etc/passwd",
        ):
            status, body = curl(base + path, "--path-as-is")
            assert (status, "treasure" in body) == (404, False)
        for method in ("POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "BREW"):
            assert curl(url, "--request", method)[0] == 405
        assert curl(url, "--data", "x" * 100_000)[0] == 405
        assert curl(url, "--header", "X: " + "x" * 30_000)[0] == 431
        assert curl(url, "--header", "Host:")[0] == 400
        assert curl(url, "--head")[0] == 200
        assert curl(url, "--http1.0")[0] == 200
        assert curl(url, "--compressed")[1].startswith("# HELP")


def test_rate_limit(tmp_path: Path, stats: Path) -> None:
    config = web_config(tmp_path, "rate_limit: {interval: 1h, burst: 3}\n")
    with exporting("--stats-dir", stats, "--web.config.file", config) as (url, _):
        answers = [get(url) for _ in range(5)]
    assert [answer.status for answer in answers] == [200, 200, 200, 429, 429]
    assert answers[-1].headers["Retry-After"] == "3600"


def test_probes_and_landing_page(stats: Path) -> None:
    with exporting("--stats-dir", stats, "--web.telemetry-path=/probe") as (url, _):
        assert url.endswith("/probe")
        base = url.removesuffix("/probe")
        asked: dict[str, Answer] = {
            path: get(base + path) for path in ("/-/healthy", "/-/ready", "/healthz", "/")
        }
        assert {answer.status for answer in asked.values()} == {200}
        assert b'href="./probe"' in asked["/"].body
        assert f"CPython {sys.version_info.major}.".encode() in asked["/"].body
        assert json.loads(asked["/healthz"].body)["up"] == 1
        assert get(base + "/metrics").status == 404


def test_mistakes_are_one_line_and_name_their_place(tmp_path: Path, stats: Path) -> None:
    config = web_config(tmp_path, "basic_auth_users: {alice: hunter2}\nrate: 1\n")
    for arguments, expected in (
        (("--web.config.file", config), "basic_auth_users.alice: not a bcrypt hash"),
        (("--web.config.file", config), "rate: unknown key"),
        (("--web.config.file", tmp_path / "absent"), "No such file or directory"),
        (("--web.telemetry-path", "/healthz"), "the exporter uses that path"),
        (("--web.systemd-socket",), "systemd passed no sockets"),
    ):
        command = [*CLI, "--stats-dir", str(stats), *map(str, arguments)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)
        assert expected in done.stderr
        assert "hunter2" not in done.stderr


def test_the_log_has_the_form_that_was_asked_for(tmp_path: Path) -> None:
    with exporting("--stats-dir", tmp_path / "absent", "--log.format=json") as (_, process):
        process.terminate()
        assert process.stderr is not None
        fields = json.loads(process.stderr.readline())
    assert (fields["level"], "does not exist yet" in fields["msg"]) == ("warn", True)
    with exporting("--stats-dir", tmp_path / "absent", "--log.level=error") as (_, process):
        process.terminate()
        assert process.communicate(timeout=10)[1] == ""


def test_sockets_from_systemd(stats: Path) -> None:
    """Systemd's own side is a few lines: the socket as descriptor 3, and two variables."""
    hand_over = (
        "import os, sys; os.dup2(int(sys.argv[1]), 3); "
        "os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS='1'); os.execv(sys.argv[2], sys.argv[2:])"
    )
    with socket.create_server(("127.0.0.1", 0)) as listener:
        os.set_inheritable(listener.fileno(), True)
        command = [sys.executable, "-c", hand_over, str(listener.fileno()), *CLI]
        command += ["--stats-dir", str(stats), "--web.systemd-socket"]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, close_fds=False)
        try:
            assert process.stdout is not None
            port = listener.getsockname()[1]
            assert f"serving http://127.0.0.1:{port}/metrics" in process.stdout.readline()
            assert b"hisparse_engine_up{" in get(f"http://127.0.0.1:{port}/metrics").body
        finally:
            process.kill()
            process.communicate(timeout=10)


def test_it_needs_neither_root_nor_a_writable_disk() -> None:
    """A user without any right to write, in a mount namespace whose root file system is read-only."""
    script = (
        "mount -o remount,ro,bind / && exec setpriv --reuid=65534 --regid=65534 --clear-groups "
        "--inh-caps=-all,+dac_read_search --ambient-caps=-all,+dac_read_search --bounding-set=-all,+dac_read_search "
        '-- "$@"'
    )
    wrap = ("unshare", "--mount", "sh", "-c", script, "sh")
    if shutil.which("unshare") is None or shutil.which("setpriv") is None:
        pytest.skip("unshare and setpriv are needed to take rights away")
    probe = subprocess.run([*wrap, "true"], capture_output=True, text=True, timeout=30, check=False)
    if probe.returncode != 0:
        pytest.skip(f"no read-only mount can be made here: {probe.stderr.strip()}")
    with ExitStack() as stack:
        stats = Path(stack.enter_context(TemporaryDirectory()))
        stats.chmod(0o755)
        stack.enter_context(closing(published(stats)))
        url, process = stack.enter_context(exporting("--stats-dir", stats, wrap=wrap))
        status = Path(f"/proc/{process.pid}/status").read_text()
        assert re.search(r"^Uid:\t65534\t", status, re.MULTILINE)
        assert b"hisparse_engine_up{" in get(url).body
