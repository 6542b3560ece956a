from __future__ import annotations

import ssl
import sys
from pathlib import Path

import pytest

from hisparse_metrics.web.config import RateLimit, WebConfig
from hisparse_metrics.web.config_file import read_web_config
from hisparse_metrics.web.duration import parse_duration
from hisparse_metrics.web.errors import MissingExtraError, WebConfigError

HASH = "$2y$10$X0h1gDsPszWURQaxFh.zoubFi6DXncSjhoQNJgRrnGs7EsimhC7zG"
TLS = "tls_server_config: {cert_file: a.pem, key_file: a.key"


@pytest.fixture(autouse=True)
def _needs_yaml() -> None:
    pytest.importorskip("yaml")


def read(folder: Path, text: str, mode: int = 0o600) -> WebConfig:
    path = folder / "web.yaml"
    path.write_text(text)
    path.chmod(mode)
    return read_web_config(path)


def problems_of(folder: Path, text: str) -> tuple[str, ...]:
    with pytest.raises(WebConfigError) as refused:
        read(folder, text)
    assert str(refused.value).startswith(f"web config {folder / 'web.yaml'} cannot be used: ")
    assert "\n" not in str(refused.value)
    return refused.value.problems


def test_everything_at_once(tmp_path: Path) -> None:
    config = read(
        tmp_path,
        f"""
tls_server_config:
  cert_file: server.pem
  key_file: /etc/secret/server.key
  client_auth_type: RequireAndVerifyClientCert
  client_ca_file: sub/ca.pem
  client_allowed_sans: [prometheus.example, 10.0.0.1]
  min_version: TLS13
  max_version: TLS13
  cipher_suites: [TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256]
  prefer_server_cipher_suites: false
  curve_preferences: [CurveP384]
http_server_config:
  http2: false
  headers:
    X-Frame-Options: deny
    Strict-Transport-Security: max-age=31536000
    X-XSS-Protection: ""
basic_auth_users:
  alice: {HASH}
auth_excluded_paths: [/-/healthy]
rate_limit:
  interval: 100ms
  burst: 20
""",
    )
    assert config.tls is not None
    assert config.tls.files == (
        tmp_path / "server.pem",
        Path("/etc/secret/server.key"),
        tmp_path / "sub/ca.pem",
    )
    assert config.tls.client_auth is ssl.CERT_REQUIRED
    assert config.tls.client_allowed_sans == {"prometheus.example", "10.0.0.1"}
    assert (config.tls.min_version, config.tls.max_version) == (
        ssl.TLSVersion.TLSv1_3,
        ssl.TLSVersion.TLSv1_3,
    )
    assert (config.tls.ciphers, config.tls.curve) == (("ECDHE-RSA-AES128-GCM-SHA256",), "secp384r1")
    assert config.headers == {"X-Frame-Options": "deny", "Strict-Transport-Security": "max-age=31536000"}
    assert config.users == {"alice": HASH}
    assert config.auth_excluded_paths == {"/-/healthy"}
    assert config.rate_limit == RateLimit(0.1, 20)
    assert config.warnings == ()


@pytest.mark.parametrize("text", ["", "# nothing\n", "tls_server_config:\n", "{}"])
def test_nothing_asks_for_nothing(tmp_path: Path, text: str) -> None:
    if text.startswith("tls"):
        assert len(problems_of(tmp_path, text)) == 2
    else:
        assert read(tmp_path, text) == WebConfig()


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("[]", "file"),
        ("unknown: 1", "unknown"),
        ("tls_server_config: {key_file: k}", "tls_server_config.cert_file"),
        ("tls_server_config: {cert_file: c}", "tls_server_config.key_file"),
        (TLS + ", cert: PEM}", "tls_server_config.cert"),
        (TLS + ", client_auth_type: RequireAnyClientCert}", "tls_server_config.client_auth_type"),
        (TLS + ", client_auth_type: Whatever}", "tls_server_config.client_auth_type"),
        (TLS + ", client_auth_type: RequireAndVerifyClientCert}", "tls_server_config.client_ca_file"),
        (TLS + ", client_ca_file: ca.pem}", "tls_server_config.client_ca_file"),
        (TLS + ", client_allowed_sans: [a]}", "tls_server_config.client_allowed_sans"),
        (TLS + ", min_version: SSL3}", "tls_server_config.min_version"),
        (TLS + ", min_version: TLS13, max_version: TLS12}", "tls_server_config.min_version"),
        (TLS + ", cipher_suites: [RC4]}", "tls_server_config.cipher_suites[0]"),
        (TLS + ", cipher_suites: RC4}", "tls_server_config.cipher_suites"),
        (TLS + ", curve_preferences: [X25519, CurveP256]}", "tls_server_config.curve_preferences"),
        (TLS + ", curve_preferences: [Brain]}", "tls_server_config.curve_preferences[0]"),
        (TLS + ", prefer_server_cipher_suites: 1}", "tls_server_config.prefer_server_cipher_suites"),
        ("http_server_config: {http3: true}", "http_server_config.http3"),
        ("http_server_config: {headers: {X-Mine: a}}", "http_server_config.headers.X-Mine"),
        (
            "http_server_config: {headers: {X-Frame-Options: allow}}",
            "http_server_config.headers.X-Frame-Options",
        ),
        (
            'http_server_config: {headers: {Content-Security-Policy: "a\\r\\nb: c"}}',
            "http_server_config.headers.Content-Security-Policy",
        ),
        ("basic_auth_users: {alice: secret}", "basic_auth_users.alice"),
        ("basic_auth_users: {alice: 12345}", "basic_auth_users.alice"),
        (f"basic_auth_users: {{'a:b': {HASH}}}", "basic_auth_users.a:b"),
        ("basic_auth_users: [alice]", "basic_auth_users"),
        (f"basic_auth_users: {{alice: {HASH.replace('$10$', '$99$')}}}", "basic_auth_users.alice"),
        ("auth_excluded_paths: /metrics", "auth_excluded_paths"),
        ("rate_limit: {interval: 1s}", "rate_limit.burst"),
        ("rate_limit: {interval: 1, burst: 1}", "rate_limit.interval"),
        ("rate_limit: {interval: soon, burst: 1}", "rate_limit.interval"),
        ("rate_limit: {interval: 1s, burst: true}", "rate_limit.burst"),
        ("rate_limit: {interval: 1s, burst: 1, unit: x}", "rate_limit.unit"),
    ],
)
def test_a_problem_is_named_by_its_path(tmp_path: Path, text: str, path: str) -> None:
    assert path in [problem.rpartition(": ")[0].split(": ")[0] for problem in problems_of(tmp_path, text)]


def test_all_problems_are_named_and_no_secret_is(tmp_path: Path) -> None:
    problems = problems_of(
        tmp_path,
        "a: 1\ntls_server_config: {}\nbasic_auth_users: {alice: hunter2}\nrate_limit: {interval: x}\n",
    )
    assert len(problems) == 5
    assert "hunter2" not in " ".join(problems)


def test_a_key_given_twice_is_refused(tmp_path: Path) -> None:
    [problem] = problems_of(tmp_path, f"basic_auth_users:\n  alice: {HASH}\n  alice: {HASH}\n")
    assert "key 'alice' is given twice in line 2" in problem


@pytest.mark.parametrize(
    "text", ["a: [", "\x00", "!!python/object:os.system {}", "a: b: c", "? [1]: 2", "[" * 5000]
)
def test_what_is_no_yaml_is_one_problem(tmp_path: Path, text: str) -> None:
    assert len(problems_of(tmp_path, text)) == 1


def test_an_unreadable_or_huge_file_is_one_problem(tmp_path: Path) -> None:
    for path in (tmp_path / "absent.yaml", tmp_path):
        with pytest.raises(WebConfigError, match=r"No such file|Is a directory"):
            read_web_config(path)
    assert problems_of(tmp_path, "#" * (2 << 20)) == ("larger than 1048576 bytes",)


def test_what_is_odd_but_possible_is_a_warning(tmp_path: Path) -> None:
    key = tmp_path / "a.key"
    key.touch()
    key.chmod(0o644)
    text = (
        TLS + ", min_version: TLS11, cipher_suites: [TLS_AES_128_GCM_SHA256]}\n"
        f"http_server_config: {{http2: true}}\n"
        f"basic_auth_users: {{a: {HASH}, b: {HASH.replace('$10$', '$16$')}}}\n"
    )
    warnings = " | ".join(read(tmp_path, text, mode=0o644).warnings)
    for part in (
        "min_version: TLS before 1.2", "cipher_suites[0]: TLS_AES_128_GCM_SHA256 is always on",
        "http_server_config.http2: HTTP/2 is not spoken", "different bcrypt costs [10, 16]", "cost of 16",
        f"{tmp_path / 'web.yaml'} can be read by every user", f"{key} can be read by every user",
    ):  # fmt: skip
        assert part in warnings
    clear = read(tmp_path, f"basic_auth_users: {{a: {HASH}}}").warnings
    assert clear == ("basic_auth_users: passwords travel in the clear without tls_server_config",)


@pytest.mark.parametrize(
    "text", ["{interval: 0}", "{interval: 0s, burst: 0}", "{}", "{burst: 5}", "{interval: '0'}"]
)
def test_no_interval_is_no_limit(tmp_path: Path, text: str) -> None:
    assert read(tmp_path, f"rate_limit: {text}").rate_limit is None


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("0", 0), ("1s", 1), ("1.5s", 1.5), ("500ms", 0.5), ("1m30s", 90), ("2h", 7200), ("10us", 1e-5)]
    + [(text, None) for text in ("", "1", "s", "1 s", "-1s", "1s ", "1d", "1e3s", "1s1", "٣s")],
)
def test_durations(text: str, seconds: float | None) -> None:
    assert parse_duration(text) == (None if seconds is None else pytest.approx(seconds))


def test_without_yaml_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "yaml", None)
    with pytest.raises(MissingExtraError, match=r"needs PyYAML.*pip install 'hisparse\[web\]'"):
        read(tmp_path, "")
