from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from hisparse_metrics.web import auth as auth_module
from hisparse_metrics.web.auth import AuthBusyError, BasicAuth
from tests.unit.web.support import basic, bcrypt_hash


class Counted:
    """bcrypt's comparison, with every call noted."""

    def __init__(self) -> None:
        self.digests: list[bytes] = []

    def __call__(self, password: bytes, digest: bytes) -> bool:
        self.digests.append(digest)
        checkpw: Callable[[bytes, bytes], bool] = pytest.importorskip("bcrypt").checkpw
        return checkpw(password, digest)


@pytest.fixture
def check() -> Counted:
    return Counted()


@pytest.fixture
def auth(check: Counted) -> BasicAuth:
    return BasicAuth({"alice": bcrypt_hash("right"), "bøb": bcrypt_hash("x" * 72)}, check)


def cost(digest: bytes) -> bytes:
    return digest.split(b"$")[2]


def test_right_password_is_compared_once(auth: BasicAuth, check: Counted) -> None:
    assert [auth.allows(basic("alice", "right")) for _ in range(3)] == [True] * 3
    assert len(check.digests) == 1


def test_wrong_user_costs_what_a_wrong_password_costs(auth: BasicAuth, check: Counted) -> None:
    assert not auth.allows(basic("alice", "wrong"))
    assert not auth.allows(basic("mallory", "wrong"))
    assert len(check.digests) == 2
    assert cost(check.digests[0]) == cost(check.digests[1])


def test_wrong_is_compared_each_time(auth: BasicAuth, check: Counted) -> None:
    for _ in range(3):
        assert not auth.allows(basic("alice", "wrong"))
        assert not auth.allows(basic("mallory", "right"))
    assert len(check.digests) == 6


def test_decoy_is_as_costly_as_the_costliest_hash(check: Counted) -> None:
    auth = BasicAuth({"a": bcrypt_hash("a", 4), "b": bcrypt_hash("b", 6)}, check)
    assert not auth.allows(basic("nobody", "x"))
    assert [cost(digest) for digest in check.digests] == [b"06"]


def test_nobody_has_the_decoys_password() -> None:
    auth = BasicAuth({"alice": bcrypt_hash("right")}, lambda _password, _digest: True)
    assert not auth.allows(basic("nobody", "anything")), "whatever matches the decoy, there is no such user"


@pytest.mark.parametrize("user", ["Alice", "alice ", "", "ALICE", "alice\0"])
def test_names_are_exact(auth: BasicAuth, user: str) -> None:
    assert not auth.allows(basic(user, "right"))


def test_utf8_names_and_long_passwords(auth: BasicAuth) -> None:
    assert auth.allows(basic("bøb", "x" * 72))
    assert auth.allows(basic("bøb", "x" * 100)), "bcrypt ends at 72 bytes, as in Apache and Go"
    assert not auth.allows(basic("bøb", "x" * 71))


@pytest.mark.parametrize(
    "header",
    [
        "", "Basic", "Basic ", "Bearer abc", "Basic !!!", "Basic YWxpY2U=", "Basic \xff", "basic", "Basic YQ",
        basic("alice", "right\0"),
    ],
)  # fmt: skip
def test_malformed_headers_cost_nothing(auth: BasicAuth, check: Counted, header: str) -> None:
    assert not auth.allows(header)
    assert check.digests == []


def test_scheme_is_case_insensitive(auth: BasicAuth) -> None:
    assert auth.allows(basic("alice", "right").replace("Basic", "bAsIc"))


def test_the_memory_of_right_passwords_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(auth_module, "_MAX_VERIFIED", 2)
    calls: list[bytes] = []
    auth = BasicAuth({"alice": bcrypt_hash("right")}, lambda password, _: not calls.append(password))
    for password in ("a", "b", "c", "c", "b", "a"):
        assert auth.allows(basic("alice", password))
    assert calls == [b"a", b"b", b"c", b"a"]


def test_no_password_is_kept(auth: BasicAuth) -> None:
    assert auth.allows(basic("alice", "right"))
    assert "right" not in repr(vars(auth))


def test_a_flood_is_turned_away_and_a_known_password_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(auth_module, "_MAX_WAITING", 2)
    entered, leave = threading.Semaphore(0), threading.Event()

    def check(password: bytes, _: bytes) -> bool:
        if password == b"slow":
            entered.release()
            assert leave.wait(10)
        return password == b"right"

    auth = BasicAuth({"alice": bcrypt_hash("right")}, check)
    assert auth.allows(basic("alice", "right"))
    flood = [threading.Thread(target=auth.allows, args=(basic("mallory", "slow"),)) for _ in range(2)]
    for thread in flood:
        thread.start()
    assert entered.acquire(timeout=10)
    while auth._waiting._value:  # type: ignore[attr-defined]
        pass
    with pytest.raises(AuthBusyError):
        auth.allows(basic("alice", "not yet known"))
    assert auth.allows(basic("alice", "right")), "a scrape under a flood"
    leave.set()
    for thread in flood:
        thread.join()
    assert not auth.allows(basic("mallory", "x")), "the flood is over"
