from __future__ import annotations

import logging
import os
import sys
from http import HTTPStatus
from pathlib import Path

import pytest

from hisparse_metrics.web.errors import MissingExtraError, WebConfigError
from hisparse_metrics.web.gate import Gate
from hisparse_metrics.web.messages import Request, Response, text_response
from hisparse_metrics.web.policy import PolicyFile
from tests.unit.web.support import basic, bcrypt_hash


@pytest.fixture(autouse=True)
def _needs_yaml() -> None:
    pytest.importorskip("yaml")


def write(path: Path, text: str) -> Path:
    """Write ``text`` under a new inode, as editors and secret mounts do, so that the change is seen in any case."""
    fresh = path.with_suffix(".new")
    fresh.write_text(text)
    fresh.chmod(0o600)
    fresh.replace(path)
    return path


def users(**passwords: str) -> str:
    return "basic_auth_users:\n" + "".join(f"  {u}: {bcrypt_hash(p)}\n" for u, p in passwords.items())


def answer(_: Request) -> Response:
    return text_response(HTTPStatus.OK, "the site")


def ask(gate: Gate, path: str = "/metrics", **credentials: str) -> Response:
    header = "".join(basic(user, password) for user, password in credentials.items())
    return gate.respond(Request("GET", path, authorization=header))


def test_without_a_file_everything_is_open() -> None:
    policy = PolicyFile(None)
    assert policy.current() is policy.current()
    assert ask(Gate(answer, policy)).body == b"the site\n"


def test_password_then_the_site(tmp_path: Path) -> None:
    gate = Gate(answer, PolicyFile(write(tmp_path / "web.yaml", users(alice="right"))))
    refused = ask(gate)
    assert (refused.status, refused.headers["WWW-Authenticate"]) == (401, 'Basic realm="hisparse"')
    assert b"the site" not in refused.body
    assert ask(gate, alice="wrong").status == 401
    assert ask(gate, alice="right").status == 200


def test_no_path_hides_from_the_password_but_those_named(tmp_path: Path) -> None:
    text = users(alice="right") + "auth_excluded_paths: [/-/healthy]\n"
    gate = Gate(answer, PolicyFile(write(tmp_path / "web.yaml", text)))
    assert ask(gate, "/-/healthy").status == 200
    for path in (
        "/",
        "/metrics",
        "/healthz",
        "/nowhere",
        "/-/healthy/",
        "/-/healthy/../../metrics",
        "//-/healthy",
    ):
        assert ask(gate, path).status == 401


def test_rate_limit_comes_before_the_password(tmp_path: Path) -> None:
    text = users(alice="right") + "rate_limit: {interval: 1h, burst: 2}\n"
    gate = Gate(answer, PolicyFile(write(tmp_path / "web.yaml", text)))
    assert [ask(gate, alice="right").status, ask(gate).status] == [200, 401]
    limited = ask(gate, alice="right")
    assert (limited.status, limited.headers["Retry-After"]) == (429, "3600")


def test_headers_are_on_every_answer(tmp_path: Path) -> None:
    text = users(alice="right") + "http_server_config: {headers: {X-Frame-Options: deny}}\n"
    gate = Gate(answer, PolicyFile(write(tmp_path / "web.yaml", text)))
    for response in (ask(gate), ask(gate, alice="right")):
        assert response.headers["X-Frame-Options"] == "deny"


def test_users_change_with_the_file(tmp_path: Path) -> None:
    path = write(tmp_path / "web.yaml", users(alice="old"))
    gate = Gate(answer, PolicyFile(path))
    assert ask(gate, alice="old").status == 200
    write(path, users(alice="new"))
    assert (ask(gate, alice="old").status, ask(gate, alice="new").status) == (401, 200)
    write(path, "")
    assert ask(gate).status == 200


def test_a_broken_file_is_logged_once_and_the_last_good_one_stays(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = write(tmp_path / "web.yaml", users(alice="right"))
    policy = PolicyFile(path)
    gate = Gate(answer, policy)
    write(path, "basic_auth_users: {alice: oops}")
    caplog.clear()
    for _ in range(3):
        assert (ask(gate).status, ask(gate, alice="right").status) == (401, 200)
    assert [r.levelno for r in caplog.records] == [logging.ERROR]
    assert "basic_auth_users.alice: not a bcrypt hash" in caplog.text
    assert not policy.is_current
    path.unlink()
    assert ask(gate).status == 401, "a file that is gone opens nothing"
    write(path, users(alice="right"))
    assert ask(gate, alice="right").status == 200
    assert policy.is_current


def test_touching_the_file_refills_no_bucket(tmp_path: Path) -> None:
    path = write(tmp_path / "web.yaml", "rate_limit: {interval: 1h, burst: 1}")
    gate = Gate(answer, PolicyFile(path))
    assert ask(gate).status == 200
    os.utime(path, (0, 0))
    assert ask(gate).status == 429
    write(path, "rate_limit: {interval: 1h, burst: 2}")
    assert ask(gate).status == 200


def test_at_the_start_a_broken_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(WebConfigError):
        PolicyFile(tmp_path / "absent.yaml")
    with pytest.raises(WebConfigError, match=r"cert_file: .*No such file"):
        PolicyFile(write(tmp_path / "web.yaml", "tls_server_config: {cert_file: a, key_file: b}"))


def test_warnings_are_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = write(tmp_path / "web.yaml", users(alice="right"))
    path.chmod(0o644)
    PolicyFile(path)
    assert "can be read by every user" in caplog.text


def test_without_bcrypt_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "web.yaml", users(alice="right"))
    monkeypatch.setitem(sys.modules, "bcrypt", None)
    with pytest.raises(MissingExtraError, match=r"needs bcrypt.*pip install 'hisparse\[web\]'"):
        PolicyFile(path)
