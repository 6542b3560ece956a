from __future__ import annotations

import socket
import ssl
import subprocess
import time
import urllib.error
from pathlib import Path

import pytest

from hisparse_metrics.exporter import Exporter, ExporterError
from hisparse_metrics.web.errors import WebConfigError
from tests.unit.web.support import Authority, exporter_of, get

TLS = "tls_server_config:\n  cert_file: ca/server.pem\n  key_file: ca/server.key\n"
MUTUAL = TLS + "  client_auth_type: RequireAndVerifyClientCert\n  client_ca_file: ca/ca.pem\n"
REFUSED = (ssl.SSLError, urllib.error.URLError, ConnectionError)


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    pytest.importorskip("yaml")
    authority = Authority(tmp_path / "ca")
    authority.issue("server")
    return authority


def shown_name(exporter: Exporter, context: ssl.SSLContext) -> str:
    """Return the common name of the certificate that the exporter shows."""
    with (
        socket.create_connection(("127.0.0.1", exporter.port), timeout=5) as plain,
        context.wrap_socket(plain, server_hostname="localhost") as secured,
    ):
        certificate = secured.getpeercert()
        assert certificate is not None
        return dict(pair for [pair] in certificate["subject"])["commonName"]  # type: ignore[arg-type, misc, union-attr]


def test_tls_and_nothing_in_the_clear(tmp_path: Path, authority: Authority) -> None:
    with exporter_of(tmp_path, TLS) as exporter:
        assert exporter.url.startswith("https://127.0.0.1:")
        assert get(exporter.metrics_url, context=authority.client_context()).status == 200
        with pytest.raises(REFUSED):
            get(exporter.metrics_url, context=ssl.create_default_context())
        with pytest.raises((OSError, urllib.error.URLError)):
            get(exporter.metrics_url.replace("https", "http"))
        assert get(exporter.metrics_url, context=authority.client_context()).status == 200


def test_a_new_certificate_is_shown_without_a_restart(tmp_path: Path, authority: Authority) -> None:
    context = authority.client_context()
    with exporter_of(tmp_path, TLS) as exporter:
        assert shown_name(exporter, context) == "server"
        authority.issue("renewed", into="server")
        assert shown_name(exporter, context) == "renewed"


def test_half_a_renewal_keeps_the_old_certificate(tmp_path: Path, authority: Authority) -> None:
    context = authority.client_context()
    certificate, key = authority.issue("half")
    with exporter_of(tmp_path, TLS) as exporter:
        key.replace(tmp_path / "ca/server.key")
        assert shown_name(exporter, context) == "server"
        assert b'"web_config_current": false' in get(f"{exporter.url}/healthz", context=context).body
        certificate.replace(tmp_path / "ca/server.pem")
        assert shown_name(exporter, context) == "half"
        assert b'"web_config_current": true' in get(f"{exporter.url}/healthz", context=context).body


def test_turning_client_certificates_on_needs_no_restart(tmp_path: Path, authority: Authority) -> None:
    with exporter_of(tmp_path, TLS) as exporter:
        assert get(exporter.metrics_url, context=authority.client_context()).status == 200
        (tmp_path / "web.yaml").write_text(MUTUAL)
        with pytest.raises(REFUSED):
            get(exporter.metrics_url, context=authority.client_context())


def test_only_clients_with_a_certificate_of_the_authority(tmp_path: Path, authority: Authority) -> None:
    strangers = Authority(tmp_path / "other")
    stranger = authority.client_context()
    stranger.load_cert_chain(*strangers.issue("mallory"))
    with exporter_of(tmp_path, MUTUAL) as exporter:
        known = authority.client_context(authority.issue("prometheus"))
        assert get(exporter.metrics_url, context=known).status == 200
        for context in (authority.client_context(), stranger):
            with pytest.raises(REFUSED):
                get(exporter.metrics_url, context=context)


@pytest.mark.parametrize(
    ("san", "allowed"),
    [
        ("DNS:prometheus.example", True),
        ("DNS:a.example,IP:10.0.0.1", True),
        ("URI:spiffe://example/prometheus", True),
        ("email:ops@example", True),
        ("DNS:sub.prometheus.example", False),
        ("DNS:other.example", False),
    ],
)
def test_only_clients_with_an_allowed_name(
    tmp_path: Path, authority: Authority, san: str, allowed: bool
) -> None:
    names = "[prometheus.example, 10.0.0.1, 'spiffe://example/prometheus', ops@example]"
    context = authority.client_context(authority.issue("client", san))
    with exporter_of(tmp_path, MUTUAL + f"  client_allowed_sans: {names}\n") as exporter:
        if allowed:
            assert get(exporter.metrics_url, context=context).status == 200
        else:
            with pytest.raises(REFUSED):
                get(exporter.metrics_url, context=context)


def test_versions_ciphers_and_curve_are_honoured(tmp_path: Path, authority: Authority) -> None:
    choice = "  max_version: TLS12\n  cipher_suites: [TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384]\n"
    with exporter_of(tmp_path, TLS + choice + "  curve_preferences: [CurveP256]\n") as exporter:
        with (
            socket.create_connection(("127.0.0.1", exporter.port), timeout=5) as plain,
            authority.client_context().wrap_socket(plain, server_hostname="localhost") as secured,
        ):
            assert (secured.version(), secured.cipher()[0]) == ("TLSv1.2", "ECDHE-ECDSA-AES256-GCM-SHA384")  # type: ignore[index]
        modern = authority.client_context()
        modern.minimum_version = ssl.TLSVersion.TLSv1_3
        with pytest.raises(REFUSED):
            get(exporter.metrics_url, context=modern)


def test_clients_that_never_finish_the_handshake_keep_nobody_out(
    tmp_path: Path, authority: Authority
) -> None:
    with exporter_of(tmp_path, TLS) as exporter:
        slow = [socket.create_connection(("127.0.0.1", exporter.port), timeout=5) for _ in range(300)]
        started = time.monotonic()
        assert get(exporter.metrics_url, context=authority.client_context()).status == 200
        assert time.monotonic() - started < 5
        for client in slow:
            client.close()


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda folder: (folder / "server.key").unlink(), "key_file: .*No such file"),
        (lambda folder: (folder / "server.pem").write_text("x"), "are no pair"),
        (
            lambda folder: (folder / "ca.key").replace(folder / "server.key"),
            "are no pair: KEY_VALUES_MISMATCH",
        ),
        (
            lambda folder: (folder / "ca.pem").write_text("x"),
            "client_ca_file: .*: NO_CERTIFICATE_OR_CRL_FOUND",
        ),
    ],
)
def test_bad_files_are_named(tmp_path: Path, authority: Authority, spoil, reason: str) -> None:  # type: ignore[no-untyped-def]
    spoil(tmp_path / "ca")
    with pytest.raises(WebConfigError, match=reason) as refused:
        exporter_of(tmp_path, MUTUAL).start()
    assert isinstance(refused.value, ExporterError)


def test_an_encrypted_key_is_refused_without_a_prompt(tmp_path: Path, authority: Authority) -> None:
    key = tmp_path / "ca/server.key"
    subprocess.run(
        ["openssl", "ec", "-in", key, "-out", key, "-aes128", "-passout", "pass:secret"],
        check=True, capture_output=True, timeout=60,
    )  # fmt: skip
    with pytest.raises(WebConfigError, match="the key is encrypted"):
        exporter_of(tmp_path, TLS).start()
