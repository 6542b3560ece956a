"""Basic authentication against bcrypt hashes, such that nobody learns more than yes or no."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import secrets
from collections import OrderedDict
from collections.abc import Callable, Mapping
from threading import BoundedSemaphore, Lock

_MAX_WAITING = 16
_MAX_VERIFIED = 100
_MAX_PASSWORD_BYTES = 72
_DECOY_TAIL = "Wq6Hn8r1cXb0Yp3uVt5sZ.kLmNoPqRsTuVwXyZaBcDeFgHiJkLmNo"


class AuthBusyError(Exception):
    """Too many passwords are waiting to be checked; the client should come back."""


class BasicAuth:
    """Checks ``Authorization`` headers. ``check`` compares a password with a bcrypt hash.

    An unknown user costs one comparison, as a wrong password does. Passwords found right are remembered, a bounded
    number of them and only as a keyed digest, so that a scrape does not pay bcrypt's price each time; comparisons
    run one at a time, and a flood of wrong passwords is turned away instead of queued.
    """

    def __init__(self, users: Mapping[str, str], check: Callable[[bytes, bytes], bool]) -> None:
        self._digests = {name.encode(): digest.encode() for name, digest in users.items()}
        self._decoy = _decoy(users)
        self._check = check
        self._key = secrets.token_bytes(32)
        self._verified: OrderedDict[bytes, None] = OrderedDict()
        self._waiting = BoundedSemaphore(_MAX_WAITING)
        self._one_at_a_time = Lock()

    def allows(self, authorization: str) -> bool:
        """Tell whether the header names a user with the right password; :class:`AuthBusyError` under a flood."""
        credentials = _decode(authorization)
        if credentials is None:
            return False
        user, password = credentials
        digest = self._digests.get(user, self._decoy)
        token = self._token(user, digest, password)
        if token in self._verified:
            return True
        matches = self._compare(password, digest)
        allowed = matches and user in self._digests
        if allowed:
            self._remember(token)
        return allowed

    def _compare(self, password: bytes, digest: bytes) -> bool:
        if not self._waiting.acquire(blocking=False):
            raise AuthBusyError
        try:
            with self._one_at_a_time:
                # bcrypt itself ends at the 72nd byte; the package would raise instead.
                return self._check(password[:_MAX_PASSWORD_BYTES], digest)
        finally:
            self._waiting.release()

    def _token(self, user: bytes, digest: bytes, password: bytes) -> bytes:
        parts = b"".join(len(part).to_bytes(4) + part for part in (user, digest, password))
        return hmac.digest(self._key, parts, hashlib.sha256)

    def _remember(self, token: bytes) -> None:
        with self._one_at_a_time:
            self._verified[token] = None
            if len(self._verified) > _MAX_VERIFIED:
                self._verified.popitem(last=False)


def _decode(authorization: str) -> tuple[bytes, bytes] | None:
    """Return user and password, or ``None`` when the header is of another kind or malformed."""
    scheme, _, encoded = authorization.partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        user, colon, password = base64.b64decode(encoded.strip(), validate=True).partition(b":")
    except (binascii.Error, ValueError):
        return None
    return (user, password) if colon and b"\0" not in password else None


def _decoy(users: Mapping[str, str]) -> bytes:
    """Return a hash that nobody's password has, as costly to compare with as the costliest real one."""
    cost = max((digest.split("$")[2] for digest in users.values()), default="10")
    return f"$2b${cost}${_DECOY_TAIL}".encode()
