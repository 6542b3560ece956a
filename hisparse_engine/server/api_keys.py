"""API keys: read from a file, checked in constant time. A key is never printed."""

from __future__ import annotations

import hashlib
import hmac
import stat
from collections.abc import Sequence
from http import HTTPStatus
from pathlib import Path

from starlette.types import ASGIApp, Receive, Scope, Send

from hisparse_engine.errors import ConfigError
from hisparse_engine.server.errors import ApiError
from hisparse_engine.server.failures import respond_with

_GUARDED = "/v1"


def read_keys(path: Path) -> list[str]:
    """Return the keys in ``path``, one a line; :class:`ConfigError` when it has none or others can read it."""
    try:
        mode = path.stat().st_mode
        text = path.read_text(encoding="ascii")
    except OSError as error:
        raise ConfigError(f"--api-key-file {path}: {error.strerror}; give a readable file") from None
    except UnicodeDecodeError:
        raise ConfigError(f"--api-key-file {path}: keys must be ASCII, for they travel in a header") from None
    if mode & (stat.S_IROTH | stat.S_IWOTH | stat.S_IWGRP):
        raise ConfigError(
            f"--api-key-file {path}: may be read or changed by other users (mode {stat.S_IMODE(mode):04o}); "
            f"run: chmod 600 {path}"
        )
    keys = [line.strip() for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    if not keys:
        raise ConfigError(f"--api-key-file {path}: has no key; write one on a line of its own")
    if any(not key.isprintable() or " " in key for key in keys):
        raise ConfigError(f"--api-key-file {path}: a key has spaces or control characters; write one a line")
    return keys


class KeyCheck:
    """ASGI middleware: under ``/v1`` only who has a key gets further."""

    def __init__(self, app: ASGIApp, keys: Sequence[str]) -> None:
        self._app = app
        self._digests = [_digest(key.encode()) for key in keys]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or answer 401."""
        if scope["type"] != "http" or not self._is_guarded(scope["path"]) or self._has_key(scope):
            await self._app(scope, receive, send)
        else:
            await respond_with(_unauthorized(), scope, receive, send)

    @staticmethod
    def _is_guarded(path: str) -> bool:
        return path == _GUARDED or path.startswith(_GUARDED + "/")

    def _has_key(self, scope: Scope) -> bool:
        given = [value for name, value in scope["headers"] if name == b"authorization"]
        scheme, _, key = given[0].partition(b" ") if len(given) == 1 else (b"", b"", b"")
        # Every key is compared: the time tells neither how many there are before the right one, nor how much is right.
        matches = [hmac.compare_digest(_digest(key.strip()), digest) for digest in self._digests]
        return scheme.lower() == b"bearer" and any(matches)


def _digest(key: bytes) -> bytes:
    return hashlib.sha256(key).digest()


def _unauthorized() -> ApiError:
    return ApiError(
        HTTPStatus.UNAUTHORIZED,
        "missing or wrong API key; send the header Authorization: Bearer KEY",
        code="invalid_api_key",
        headers={"WWW-Authenticate": "Bearer"},
    )
